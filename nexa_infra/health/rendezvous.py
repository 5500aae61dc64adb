"""The nodes of a training meet before it starts: reports compared through files, then a try of the network.

Files that all nodes see, no network, until the nodes are known to fit together. Then they run a short all-reduce, or
without GPUs exchange over TCP. Whoever first has every answer, or has waited long enough, decides for all: the decision
of a round is a file that is created exclusively, and the others read it. A round that loses a node is followed by one
with a spare in its place.

    <folder>/report-<node>.json      what the checks found
    <folder>/decision-<round>.json   who goes on
    <folder>/sign-<round>-<node>.json, result-<round>-<node>.json
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from nexa_contracts.base import Contract
from nexa_contracts.errors import AlreadyExists, ConfigError, Refused
from nexa_contracts.health import HealthReport
from nexa_contracts.rendezvous import JoinDecision, JoinResult, JoinSign
from nexa_infra.health.decision import decide_first, decide_next
from nexa_infra.health.exchange import Host, exchange
from nexa_infra.health.reducing import Place, choose_port, reduce_here
from nexa_infra.health.sources import Sources
from nexa_infra.storage.atomic import create_file, make_folder, storage_errors

_SHORTEST_POLL_S = 0.02
_LONGEST_POLL_S = 0.5
_SLOWER = 1.3
"""Nodes that are well come within a moment; one that is not is waited for by all the others."""
_SLACK = 2.0
"""Spares wait this many times as long as those who join, so that those who were there decide."""
_Found = TypeVar("_Found", bound=Contract)


class NodeRefused(Refused):
    """This node does not join; the others go on without it."""


class TooFewNodes(Refused):
    """The training cannot start: not enough nodes fit together."""

    def __init__(self, decision: JoinDecision) -> None:
        super().__init__(f"the training does not start: {decision.reason}")
        self.decision = decision


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
    """How long an exchange or an all-reduce may take, the loading of torch included."""


@dataclass(frozen=True, slots=True)
class Node:
    """This node, as it joins."""

    name: str
    address: str
    """Under which the others reach it."""
    gpus: int
    """Processes of the all-reduce; 0: the nodes exchange over TCP instead."""
    sources: Sources


def meet(meeting: Meeting, node: Node, report: HealthReport) -> JoinDecision:
    """Return the decision under which this node joins; its rank is its place in `joined`.

    Raises:
        NodeRefused: this node does not join, or is a spare that is not needed.
        TooFewNodes: nobody starts; the message names every refused node with the reason.
        StorageError: the shared tier cannot be read or written.
    """
    make_folder(meeting.folder)
    create_file(locate_report(meeting.folder, node.name), report.to_json().encode())
    waiting = _Waiting(meeting, node)
    decision = waiting.decide_reports()
    while decision.state == "try":
        is_in = node.name in decision.joined
        # It answers until everyone's result is there, and the others need it no more.
        with Host(node.sources.clock) if is_in and not node.gpus else contextlib.nullcontext() as host:
            if is_in:
                _join(meeting, node, decision, host)
            decision = waiting.decide_results(decision)
    if decision.state == "stop":
        raise TooFewNodes(decision)
    if node.name not in decision.joined:
        why = decision.refused.get(node.name, "a spare that was not needed")
        raise NodeRefused(f"{node.name} does not join: {why}")
    return decision


def locate_report(folder: Path, node: str) -> Path:
    """Return the file of a node's report in the folder of a meeting.

    Raises:
        ConfigError: that is no name of a node.
    """
    return folder / f"report-{_safe(node)}.json"


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
            reports = {name: _read(locate_report(meeting.folder, name), HealthReport) for name in meeting.nodes}
            return decide_first(meeting.nodes, reports, wanted=meeting.wanted, waited_s=meeting.report_s)

        needed = [locate_report(meeting.folder, name) for name in meeting.nodes]
        return self._settle(0, needed, decide, timeout_s=meeting.report_s)

    def decide_results(self, before: JoinDecision) -> JoinDecision:
        meeting = self.meeting

        def decide() -> JoinDecision:
            results = {name: _read(_result(meeting, before.round, name), JoinResult) for name in before.joined}
            return decide_next(before, results, wanted=meeting.wanted)

        needed = [_result(meeting, before.round, name) for name in before.joined]
        # Those who joined have spent their time on trying each other already.
        timeout_s = meeting.join_s * (1 if self.node.name in before.joined else _SLACK)
        return self._settle(before.round + 1, needed, decide, timeout_s=timeout_s)

    def _settle(
        self, number: int, needed: Iterable[Path], decide: Callable[[], JoinDecision], *, timeout_s: float
    ) -> JoinDecision:
        path = self.meeting.folder / f"decision-{number}.json"
        _await(self.meeting, self.node, needed, unless=path, timeout_s=timeout_s)
        found = _read(path, JoinDecision)
        if found is not None:
            return found
        decision = decide()
        try:
            create_file(path, decision.to_json().encode())
        except AlreadyExists:
            return _require(path, JoinDecision)  # another node was first, and its word holds
        return decision


def _join(meeting: Meeting, node: Node, decision: JoinDecision, host: Host | None) -> None:
    number = decision.round
    port = choose_port() if host is None else host.port
    sign = JoinSign(node=node.name, round=number, address=node.address, port=port, processes=max(1, node.gpus))
    create_file(_sign(meeting, number, node.name), sign.to_json().encode())
    paths = [_sign(meeting, number, name) for name in decision.joined]
    _await(meeting, node, paths, timeout_s=meeting.join_s / 2)
    signs = [_read(path, JoinSign) for path in paths]
    present = [sign for sign in signs if sign is not None]
    if len(present) < len(paths):
        absent = tuple(name for name, sign in zip(decision.joined, signs, strict=True) if sign is None)
        words = f"waited for {', '.join(absent)}"
        result = JoinResult(node=node.name, round=number, is_done=False, words=words, unreached=absent)
    elif host is None:
        place = Place(signs=tuple(present), index=decision.joined.index(node.name), timeout_s=meeting.join_s / 2)
        result = reduce_here(node.sources, place, backend="nccl")
    else:
        result = exchange(present, sign, clock=node.sources.clock, timeout_s=meeting.join_s / 4)
    create_file(_result(meeting, number, node.name), result.to_json().encode())


def _await(
    meeting: Meeting, node: Node, paths: Iterable[Path], *, timeout_s: float, unless: Path | None = None
) -> None:
    """Return when all these files of the meeting are there, or the other one is, or the time is over."""
    clock = node.sources.clock
    names = {path.name for path in paths}
    deadline_s, pause_s = clock.monotonic_s() + timeout_s, _SHORTEST_POLL_S
    with storage_errors(meeting.folder, "waiting for other nodes"):
        # One listing and not a question for each: there may be a thousand nodes, and every one of them waits.
        while not (names <= (there := set(os.listdir(meeting.folder))) or (unless and unless.name in there)):  # noqa: PTH208
            if clock.monotonic_s() >= deadline_s:
                return
            clock.sleep(min(pause_s, max(0.0, deadline_s - clock.monotonic_s())))
            pause_s = min(_LONGEST_POLL_S, pause_s * _SLOWER)
            _look_anew(meeting.folder, node.name)


def _look_anew(folder: Path, name: str) -> None:
    # NFS remembers for up to a minute that a file was not there; a change of our own makes it look again.
    look = folder / f".look-{name}"
    os.close(os.open(look, os.O_WRONLY | os.O_CREAT, 0o644))
    with contextlib.suppress(FileNotFoundError):
        look.unlink()


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
