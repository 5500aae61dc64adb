"""Where the time of one process goes, told in `events.jsonl` while it goes."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Self

from nexa_contracts.clock import Clock
from nexa_contracts.errors import StorageError
from nexa_infra.monitoring.run_events import END, START, STEPS, Bucket, Event, render_event
from nexa_infra.storage.atomic import append_line
from nexa_train.job import Job

logger = logging.getLogger(__name__)

FIRST_INTERVAL_S = 1.0
LONGEST_INTERVAL_S = 30.0
"""Between two lines; it doubles up to here, so that also a short attempt says something, and a long one little."""


class Timeline:
    """Charges what passed since the last charge, so that no second is left out or counted twice.

    Only the first process writes. A line that cannot be written is told in the log, once, and does not end a training.
    """

    def __init__(self, job: Job, *, clock: Clock) -> None:
        """Say that the process lives."""
        self._job = job
        self._clock = clock
        self._is_open = job.is_main
        self._mark_s = self._told_s = clock.monotonic_s()
        self._interval_s = FIRST_INTERVAL_S
        self._spent = dict.fromkeys(Bucket, 0.0)
        self._step: int | None = None
        self.tell(START)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Charge what is left, for a training that ended well to its final model, and tell it."""
        self.charge(Bucket.SAVE if kind is None else Bucket.OTHER)
        self.tell(END, self._step)

    def charge(self, bucket: Bucket) -> None:
        """Say what the time since the last charge was spent on."""
        now_s = self._clock.monotonic_s()
        self._spent[bucket] += now_s - self._mark_s
        self._mark_s = now_s

    def note_step(self, step: int) -> None:
        """Charge a step that was made, and tell it when the last line is old enough."""
        self.charge(Bucket.COMPUTE)
        self._step = step
        if self._mark_s - self._told_s >= self._interval_s:
            self.tell(STEPS, step)
            self._interval_s = min(LONGEST_INTERVAL_S, 2 * self._interval_s)

    def tell(self, name: str, step: int | None = None) -> None:
        """Write what was charged since the last line."""
        self._told_s = self._mark_s
        if not self._is_open:
            return
        event = Event(self._job.attempt, name, self._clock.now(), step, self._spent)
        try:
            append_line(self._job.run_dir.events, render_event(event))
        except StorageError as error:
            self._is_open = False
            logger.warning("where the time goes is not told any more: %s", error)
        self._spent = dict.fromkeys(Bucket, 0.0)
