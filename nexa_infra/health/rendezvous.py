"""The nodes of a training meet before it starts: reports compared through files, then a short all-reduce.

Files on the shared tier, no network, until the nodes are known to fit together. Whoever first has every answer, or has
waited long enough, decides for all: the decision of a round is a file that is created exclusively, and the others read
it. A round that loses a node is followed by one with a spare in its place.

    <folder>/report-<node>.json      what the checks found
    <folder>/decision-<round>.json   who goes on
    <folder>/sign-<round>-<node>.json, result-<round>-<node>.json
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from nexa_contracts.base import Contract
from nexa_contracts.errors import AlreadyExists, ConfigError, Refused
from nexa_contracts.health import HealthReport
from nexa_contracts.rendezvous import JoinDecision, JoinResult, JoinSign
from nexa_infra.health.decision import decide_first, decide_next
from nexa_infra.health.reducing import Place, choose_port, reduce_here
from nexa_infra.health.sources import Sources
from nexa_infra.storage.atomic import create_file, make_folder, storage_errors

_POLL_S = 0.2
_SLACK = 2.0
"""Spares wait this many times as long as those who join, so that those who were there decide."""
_Found = TypeVar("_Found", bound=Contract)


class NodeRefused(Refused):
    """This node does not join; the others go on without it."""


class TooFewNodes(Refused):
    """The training cannot start: not enough nodes fit together."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """Who meets where. The folder is this attempt's own, and holds nothing of an earlier one."""

    folder: Path
    nodes: tuple[str, ...]
    """Everyone who may come, spares included, in the order of their ranks."""
    wanted: int
    """How many train."""
    report_s: float = 300.0
    """How long a node may take to check itself."""
    join_s: float = 180.0
    """How long an all-reduce may take, the loading of torch included."""


@dataclass(frozen=True, slots=True)
class Node:
    """This node, as it joins."""

    name: str
    address: str
    """Under which the others reach it."""
    gpus: int
    """Processes of the all-reduce; none makes it one on the cores, through gloo."""
    sources: Sources


def meet(meeting: Meeting, node: Node, report: HealthReport) -> JoinDecision:
    """Return the decision under which this node joins; its rank is its place in `joined`.

    Raises:
        NodeRefused: this node does not join, or is a spare that is not needed.
        TooFewNodes: nobody starts; the message names every refused node with the reason.
        StorageError: the shared tier cannot be read or written.
    """
    make_folder(meeting.folder)
    create_file(_report(meeting, node.name), report.to_json().encode())
    waiting = _Waiting(meeting, node)
    decision = waiting.decide_reports()
    while decision.state == "try":
        if node.name in decision.joined:
            _join(meeting, node, decision)
        decision = waiting.decide_results(decision)
    if decision.state == "stop":
        raise TooFewNodes(
            f"the training does not start: {decision.reason}",
            hint="`nexa health --nodes …` shows each check; ask for spares, or exclude the nodes",
        )
    if node.name not in decision.joined:
        why = decision.refused.get(node.name, "a spare that was not needed")
        raise NodeRefused(f"{node.name} does not join: {why}")
    return decision


def read_decision(folder: Path) -> JoinDecision | None:
    """Return the last decision of a meeting; None when there is none yet."""
    last, number = None, 0
    while (found := _read(folder / f"decision-{number}.json", JoinDecision)) is not None:
        last, number = found, number + 1
    return last


@dataclass(frozen=True, slots=True)
class _Waiting:
    meeting: Meeting
    node: Node

    def decide_reports(self) -> JoinDecision:
        meeting = self.meeting

        def decide() -> JoinDecision:
            reports = {name: _read(_report(meeting, name), HealthReport) for name in meeting.nodes}
            return decide_first(meeting.nodes, reports, wanted=meeting.wanted, waited_s=meeting.report_s)

        needed = [_report(meeting, name) for name in meeting.nodes]
        return self._settle(0, needed, decide, timeout_s=meeting.report_s)

    def decide_results(self, before: JoinDecision) -> JoinDecision:
        meeting = self.meeting

        def decide() -> JoinDecision:
            results = {name: _read(_result(meeting, before.round, name), JoinResult) for name in before.joined}
            return decide_next(before, results, wanted=meeting.wanted)

        needed = [_result(meeting, before.round, name) for name in before.joined]
        # Those who joined have spent their time on the all-reduce already.
        timeout_s = meeting.join_s * (1 if self.node.name in before.joined else _SLACK)
        return self._settle(before.round + 1, needed, decide, timeout_s=timeout_s)

    def _settle(
        self, number: int, needed: Sequence[Path], decide: Callable[[], JoinDecision], *, timeout_s: float
    ) -> JoinDecision:
        path = self.meeting.folder / f"decision-{number}.json"
        _await(self.meeting, self.node, lambda: path.exists() or all(map(Path.exists, needed)), timeout_s=timeout_s)
        found = _read(path, JoinDecision)
        if found is not None:
            return found
        decision = decide()
        try:
            create_file(path, decision.to_json().encode())
        except AlreadyExists:
            return _require(path, JoinDecision)  # another node was first, and its word holds
        return decision


def _join(meeting: Meeting, node: Node, decision: JoinDecision) -> None:
    number = decision.round
    sign = JoinSign(node=node.name, round=number, address=node.address, port=choose_port(), processes=max(1, node.gpus))
    create_file(_sign(meeting, number, node.name), sign.to_json().encode())
    paths = [_sign(meeting, number, name) for name in decision.joined]
    _await(meeting, node, lambda: all(map(Path.exists, paths)), timeout_s=meeting.join_s / 2)
    signs = [_read(path, JoinSign) for path in paths]
    present = [sign for sign in signs if sign is not None]
    if len(present) < len(paths):
        absent = [name for name, sign in zip(decision.joined, signs, strict=True) if sign is None]
        result = JoinResult(node=node.name, round=number, is_done=False, words=f"waited for {', '.join(absent)}")
    else:
        place = Place(signs=tuple(present), index=decision.joined.index(node.name), timeout_s=meeting.join_s / 2)
        result = reduce_here(node.sources, place, backend="nccl" if node.gpus else "gloo")
    create_file(_result(meeting, number, node.name), result.to_json().encode())


def _await(meeting: Meeting, node: Node, holds: Callable[[], bool], *, timeout_s: float) -> bool:
    clock = node.sources.clock
    deadline_s = clock.monotonic_s() + timeout_s
    with storage_errors(meeting.folder, "waiting for other nodes"):
        while not holds():
            if clock.monotonic_s() >= deadline_s:
                return False
            clock.sleep(_POLL_S)
            _look_anew(meeting.folder, node.name)
    return True


def _look_anew(folder: Path, name: str) -> None:
    # NFS remembers for up to a minute that a file was not there; a change of our own makes it look again.
    look = folder / f".look-{name}"
    os.close(os.open(look, os.O_WRONLY | os.O_CREAT, 0o644))
    with contextlib.suppress(FileNotFoundError):
        look.unlink()


def _report(meeting: Meeting, node: str) -> Path:
    return meeting.folder / f"report-{_safe(node)}.json"


def _sign(meeting: Meeting, number: int, node: str) -> Path:
    return meeting.folder / f"sign-{number}-{_safe(node)}.json"


def _result(meeting: Meeting, number: int, node: str) -> Path:
    return meeting.folder / f"result-{number}-{_safe(node)}.json"


def _safe(node: str) -> str:
    if "/" in node or "\0" in node or node.startswith("."):
        raise ConfigError(f"{node!r:.120} cannot name a node's files; allowed: a name without /")
    return node


def _read(path: Path, kind: type[_Found]) -> _Found | None:
    with storage_errors(path, "reading"):
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
    return kind.from_json(text, source=str(path))


def _require(path: Path, kind: type[_Found]) -> _Found:
    found = _read(path, kind)
    if found is None:
        raise ConfigError(f"{path}: it was there and is gone; the folder of a meeting must not be changed")
    return found
