"""The quarantine ledger of a cluster: which nodes failed jobs, which are kept out, and until when.

One file on the shared tier, a line each, only appended to; what holds now is worked out by reading it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from nexa_contracts.errors import ConfigError
from nexa_contracts.health import LedgerEntry
from nexa_infra.storage.atomic import append_line, storage_errors

logger = logging.getLogger(__name__)

LEMON_FAILURES = 2
"""Failed jobs on one node that make it a lemon."""
MEMORY = timedelta(days=7)
"""Failures further apart than this are not one node's doing."""
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A node that is kept out."""

    node: str
    since: datetime
    expires_at: datetime
    reason: str


class Ledger:
    """The ledger in one file, which need not be there."""

    def __init__(self, path: Path, *, quarantine_for: timedelta = timedelta(days=1)) -> None:
        """Use the file; a node stays out for `quarantine_for` after its second failure."""
        self._path = path
        self._quarantine_for = quarantine_for

    def record_failure(self, node: str, *, job: str, reason: str, now: datetime) -> Quarantine | None:
        """Record that a job failed for a reason that can be the node's; return the quarantine when it is under one.

        A job counts once, however often it is told. Not for what the program did itself: an error in the code fails on
        every node it meets.

        Raises:
            ConfigError: that is no name of a node.
            StorageError: the shared tier cannot be written.
        """
        if not self._has_counted(_checked(node), job):
            self._append(LedgerEntry(at=now, node=node, event="failure", job=job, reason=reason))
        return next((standing for standing in self.standing(now) if standing.node == node), None)

    def add(self, node: str, *, reason: str, now: datetime, lasts: timedelta | None = None) -> Quarantine:
        """Return the quarantine that a person puts a node under.

        Raises:
            ConfigError: that is no name of a node.
            StorageError: the shared tier cannot be written.
        """
        until = now + (lasts or self._quarantine_for)
        self._append(LedgerEntry(at=now, node=_checked(node), event="quarantine", reason=reason, expires_at=until))
        return Quarantine(node=node, since=now, expires_at=until, reason=reason)

    def clear(self, node: str, *, reason: str, now: datetime) -> bool:
        """Return whether the node was under quarantine; it no longer is, and its failures are forgotten.

        Raises:
            ConfigError: that is no name of a node.
            StorageError: the shared tier cannot be written.
        """
        was = _checked(node) in self.quarantined(now)
        self._append(LedgerEntry(at=now, node=node, event="clear", reason=reason))
        return was

    def quarantined(self, now: datetime) -> frozenset[str]:
        """Return the names of the nodes that are kept out now.

        Raises:
            StorageError: the ledger is there and cannot be read.
        """
        return frozenset(standing.node for standing in self.standing(now))

    def standing(self, now: datetime) -> tuple[Quarantine, ...]:
        """Return the quarantines that hold now, by node.

        Raises:
            StorageError: the ledger is there and cannot be read.
        """
        return judge_entries(self.read()[0], now=now, quarantine_for=self._quarantine_for)

    def read(self) -> tuple[tuple[LedgerEntry, ...], tuple[str, ...]]:
        """Return the entries in the order they were written, and a line for each that is damaged.

        Raises:
            StorageError: the ledger is there and cannot be read.
        """
        with storage_errors(self._path, "reading"):
            try:
                raw = self._path.read_bytes()
            except FileNotFoundError:
                return (), ()
        entries, damaged = [], []
        for number, line in enumerate(raw.splitlines(), start=1):
            try:
                entries.append(LedgerEntry.from_json(line, source=f"{self._path}:{number}"))
            except ConfigError as error:
                logger.warning("a line of the quarantine ledger cannot be read reason=%s", error.message)
                damaged.append(error.message)
        return tuple(entries), tuple(damaged)

    def _has_counted(self, node: str, job: str) -> bool:
        counts = False
        for entry in self.read()[0]:
            if entry.node == node and (entry.event == "clear" or entry.job == job):
                counts = entry.event == "failure"
        return counts

    def _append(self, entry: LedgerEntry) -> None:
        # A new line first: the one before may have been cut off by a kill, and must not swallow this one.
        line = entry.model_dump_json().encode()
        append_line(self._path, b"\n" + line if self._is_cut() else line, flush=True)

    def _is_cut(self) -> bool:
        with storage_errors(self._path, "reading"):
            try:
                raw = self._path.read_bytes()
            except FileNotFoundError:
                return False
        return bool(raw) and not raw.endswith(b"\n")


def judge_entries(
    entries: Sequence[LedgerEntry], *, now: datetime, quarantine_for: timedelta = timedelta(days=1)
) -> tuple[Quarantine, ...]:
    """Return the quarantines that hold at a time, by node: a person's, and those of two failures of different jobs."""
    by_node: dict[str, list[LedgerEntry]] = {}
    for entry in entries:
        by_node.setdefault(entry.node, []).append(entry)
    found = [_judge_node(of, quarantine_for) for _, of in sorted(by_node.items())]
    return tuple(standing for standing in found if standing is not None and standing.expires_at > now)


def _judge_node(entries: Sequence[LedgerEntry], quarantine_for: timedelta) -> Quarantine | None:
    standing: Quarantine | None = None
    failures: list[LedgerEntry] = []
    for entry in entries:
        made: Quarantine | None = None
        event: Literal["failure", "quarantine", "clear"] = entry.event
        if event == "clear":
            standing, failures = None, []
        elif event == "quarantine":
            until = entry.expires_at or entry.at + quarantine_for
            made = Quarantine(entry.node, entry.at, until, entry.reason)
        elif event == "failure":
            failures = [old for old in failures if old.job != entry.job and abs(entry.at - old.at) <= MEMORY]
            failures.append(entry)
            if len(failures) >= LEMON_FAILURES:
                jobs = ", ".join(failure.job for failure in failures[-LEMON_FAILURES:])
                reason = f"{len(failures)} failed jobs: {jobs}: {entry.reason}"
                made = Quarantine(entry.node, entry.at, entry.at + quarantine_for, reason)
        else:
            raise ValueError(f"ledger event {event!r}")
        if made is not None and (standing is None or made.expires_at >= standing.expires_at):
            standing = made
    return standing


def _checked(node: str) -> str:
    if not _NODE.fullmatch(node):
        raise ConfigError(f"node: found {node!r:.120}; allowed: a name of letters, digits, . _ and -")
    return node
