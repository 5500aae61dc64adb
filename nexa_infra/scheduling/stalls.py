"""Whether a program still makes steps, as `heartbeat.json` and `metrics.jsonl` tell; that a process lives says nothing.

A collective that waits for ever keeps every process alive, every GPU busy and every thread beating.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexa_contracts.clock import Clock
from nexa_infra.scheduling.records import read_regular
from nexa_infra.storage.metrics import read_last_records, read_whole
from nexa_infra.storage.run_dir import RunDir

_LOOKS = 20
"""How often it is looked within the longest time without a step."""
_LONGEST_PAUSE_S = 15.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a program says it is. None: it has not said."""

    step: int | None = None
    batches: int | None = None
    """Batches of evaluations; they are no steps, and take long."""
    max_steps: int | None = None
    pid: int | None = None
    """The process that says so."""

    @property
    def is_last(self) -> bool:
        """Whether no further step is to come: what is left is evaluating, saving and promoting."""
        return self.step is not None and bool(self.max_steps) and self.step >= (self.max_steps or 0)

    def has_moved(self, before: Progress) -> bool:
        """Whether something was done since; a step may go back, when a checkpoint is loaded."""
        return (self.step, self.batches) != (before.step, before.batches)


class StepReader:
    """Reads the steps of one attempt; what earlier ones left in the same files does not count."""

    def __init__(self, run_dir: RunDir, attempt: int, *, is_over: bool = False) -> None:
        """Begin with the attempt; of one that `is_over` only what names it is known."""
        self._run_dir = run_dir
        self._attempt = attempt
        self._is_over = is_over
        self._old_size = 0 if is_over else _size(run_dir.metrics)
        self._old_beat = None if is_over else _read(run_dir.heartbeat)

    def read(self) -> Progress:
        """Return how far the attempt is now; what cannot be read says nothing."""
        beat = self._read_beat()
        steps = [read_whole(beat.get("step")), self._read_metrics()]
        said = [step for step in steps if step is not None and step >= 0]
        return Progress(
            step=max(said, default=None),
            batches=read_whole(beat.get("batches")),
            max_steps=read_whole(beat.get("max_steps")),
            pid=read_whole(beat.get("pid")),
        )

    def _read_beat(self) -> dict[str, Any]:
        text = _read(self._run_dir.heartbeat)
        if text is None or text == self._old_beat:
            return {}
        try:
            beat = json.loads(text)
        except (ValueError, RecursionError):
            return {}
        return beat if isinstance(beat, dict) and self._is_ours(beat) else {}

    def _read_metrics(self) -> int | None:
        new_bytes = _size(self._run_dir.metrics) - self._old_size
        if new_bytes <= 0:
            return None
        try:
            # A byte more: the first line of a part of a file is taken for half a one.
            records = read_last_records(self._run_dir.metrics, tail_bytes=min(new_bytes + 1, 64 * 1024))
        except OSError:
            return None
        steps = [read_whole(record.get("step")) for record in records if self._is_ours(record)]
        return next((step for step in reversed(steps) if step is not None), None)

    def _is_ours(self, record: dict[str, Any]) -> bool:
        unnamed = None if self._is_over else self._attempt
        return bool(record.get("attempt", unnamed) == self._attempt)


class StallWatch:
    """Says when a program has made no step for too long; its start, up to the first step, is measured the same way."""

    def __init__(self, reader: StepReader, *, stall_s: float | None, clock: Clock) -> None:
        self._reader = reader
        self._stall_s = stall_s
        self._clock = clock
        self._moved_s = self._looked_s = clock.monotonic_s()
        self.progress = Progress()
        """As it was last seen."""

    @property
    def next_look_s(self) -> float:
        """When it wants to look again, by the monotonic clock."""
        if self._stall_s is None:
            return float("inf")
        return self._looked_s + min(_LONGEST_PAUSE_S, self._stall_s / _LOOKS)

    def is_stalled(self) -> bool:
        """Look, if it is time to, and return whether nothing has moved for the whole time."""
        now_s = self._clock.monotonic_s()
        if self._stall_s is None or now_s < self.next_look_s:
            return False
        # A pause of our own (a machine that slept) is no pause of the program's: it gets its time anew.
        if now_s - self._looked_s > self._stall_s:
            self._moved_s = now_s
        self._looked_s = now_s
        seen = self._reader.read()
        if seen.has_moved(self.progress) or seen.is_last:
            self._moved_s = now_s
        self.progress = seen
        return now_s - self._moved_s >= self._stall_s


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read(path: Path) -> bytes | None:
    try:
        return read_regular(path)
    except (OSError, ValueError):
        return None
