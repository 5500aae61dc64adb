"""This node's part of the all-reduce: a process for each GPU, and what they say made one result."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from nexa_contracts.errors import CommandTimedOut, ExternalError
from nexa_contracts.rendezvous import JoinResult, JoinSign
from nexa_infra.health.sources import Sources
from nexa_infra.process import tail

_START_S = 60.0
"""Loading torch from a network file system takes this long on a bad day."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where this node stands among those that reduce."""

    signs: tuple[JoinSign, ...]
    """Everyone's, in the order of their ranks."""
    index: int
    """Ours."""
    timeout_s: float

    @property
    def own(self) -> JoinSign:
        """Our sign."""
        return self.signs[self.index]

    @property
    def world(self) -> int:
        """Processes in all."""
        return sum(sign.processes for sign in self.signs)

    @property
    def first_rank(self) -> int:
        """The rank of our first process."""
        return sum(sign.processes for sign in self.signs[: self.index])


def choose_port() -> int:
    """Return a port that is free now; a round that loses it to somebody else fails, and says so."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        port: int = listener.getsockname()[1]
        return port


def reduce_here(sources: Sources, place: Place, *, backend: Literal["gloo", "nccl"]) -> JoinResult:
    """Return what the all-reduce came to on this node; it never raises for what went wrong."""
    devices = range(place.own.processes)
    with ThreadPoolExecutor(len(devices)) as pool:
        answers = list(pool.map(lambda device: _run(sources, place, backend, device), devices))
    failed = [answer for answer in answers if "failed" in answer]
    if failed:
        own = [answer for answer in failed if answer.get("is_own_fault")]
        worst = (own or failed)[0]
        return JoinResult(
            node=place.own.node,
            round=place.own.round,
            is_done=False,
            is_own_fault=bool(own),
            words=f"all-reduce: {worst['failed']}",
        )
    return JoinResult(
        node=place.own.node,
        round=place.own.round,
        is_done=True,
        ahead_s=max((float(answer["ahead_s"]) for answer in answers), key=abs),
        all_reduce_gb_s=min(float(answer["speed_gb_s"]) for answer in answers),
    )


def _run(sources: Sources, place: Place, backend: str, device: int) -> dict[str, Any]:
    first = place.signs[0]
    options = {
        "backend": backend,
        "address": first.address,
        "port": first.port,
        "rank": place.first_rank + device,
        "world": place.world,
        "device": device,
        "timeout-s": place.timeout_s,
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    try:
        reply = sources.run_own("all_reduce", *words, timeout_s=place.timeout_s + _START_S)
    except CommandTimedOut:
        return {"failed": f"no end after {place.timeout_s + _START_S:g} s"}
    except ExternalError as error:
        return {"failed": error.message, "is_own_fault": True}
    try:
        answer: dict[str, Any] = json.loads(reply.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        return {"failed": f"status {reply.returncode}: {tail(reply.stderr) or 'printed nothing'}"}
    return answer
