"""Goodput: the share of a run's wall time that brought it on, and where the rest went.

Every second from the submission to the end is in one bucket, so the buckets add up to the wall time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from nexa_infra.monitoring.run_events import BEGIN, END, SAVE, START, Bucket, Event

_STEPPING = (Bucket.COMPUTE, Bucket.DATA)
"""What is spent again when steps are made again."""


@dataclass(frozen=True, slots=True)
class AttemptSpan:
    """When an attempt was."""

    number: int
    started_at: datetime
    ended_at: datetime
    seconds: float
    """Measured with a monotonic clock."""
    step: int | None = None
    """The last step it was known to have made."""


@dataclass(frozen=True, slots=True)
class Goodput:
    """The wall time of a run by what it was spent on, and what its checkpoints and starts took."""

    seconds: Mapping[Bucket, float]
    """Of every bucket."""
    is_measured: bool
    """Whether any attempt told where its time went; else all of it is in `other`."""
    saves: int = 0
    """Checkpoints that were saved."""
    saving_s: float = 0.0
    """Seconds that training stood still for them, all together."""
    steps_made: int = 0
    """Steps that were told, those that were made again too."""
    stepping_s: float = 0.0
    """What they took, with their batches."""
    restarts: int = 0
    """Attempts after the first one."""
    restarting_s: float = 0.0
    """Waiting, start-up and restoring of those, all together."""

    @property
    def wall_s(self) -> float:
        """Seconds from the submission to the end."""
        return sum(self.seconds.values())

    @property
    def share(self) -> float | None:
        """The goodput, from 0 to 1: seconds of steps that were kept ÷ wall seconds; None where nobody measured."""
        wall_s = self.wall_s
        return self.seconds[Bucket.COMPUTE] / wall_s if self.is_measured and wall_s > 0 else None

    @property
    def save_s(self) -> float | None:
        """Seconds of one checkpoint; None: none was saved."""
        return self.saving_s / self.saves if self.saves else None

    @property
    def step_s(self) -> float | None:
        """Seconds of one step; None: none was made."""
        return self.stepping_s / self.steps_made if self.steps_made else None

    @property
    def restart_s(self) -> float | None:
        """Seconds from the end of an attempt to the first step of the next; None: there was no next one."""
        return self.restarting_s / self.restarts if self.restarts else None


def account_time(
    attempts: Iterable[AttemptSpan],
    events: Iterable[Event],
    *,
    submitted_at: datetime,
    ended_at: datetime | None = None,
) -> Goodput:
    """Return where the wall time of a run went.

    Attempts may come in any order. One that is still going on is known by its events, and counts up to the last of
    them; one without events is `other`. Where a clock was set back, the time that was measured holds.
    """
    by_attempt: dict[int, list[Event]] = {}
    for event in events:
        by_attempt.setdefault(event.attempt, []).append(event)
    ledger = _Ledger()
    cursor, is_first = submitted_at, True
    for span in _order(attempts, by_attempt):
        waited_s = max(0.0, (span.started_at - cursor).total_seconds())
        ledger.add(Bucket.WAITING, waited_s)
        started_s = ledger.account(span, by_attempt.get(span.number, ()))
        if not is_first:
            ledger.restarts += 1
            ledger.restarting_s += waited_s + started_s
        cursor, is_first = span.ended_at, False
    if ended_at is not None:
        rest_s = max(0.0, (ended_at - cursor).total_seconds())
        ledger.add(Bucket.WAITING if is_first else Bucket.OTHER, rest_s)
    return ledger.close(is_measured=bool(by_attempt))


def _order(attempts: Iterable[AttemptSpan], events: Mapping[int, Sequence[Event]]) -> Iterator[AttemptSpan]:
    recorded = {span.number: span for span in attempts}
    for number in sorted({*recorded, *events}):
        yield recorded.get(number) or _open_span(number, events[number])


def _open_span(number: int, events: Sequence[Event]) -> AttemptSpan:
    first, last = events[0], events[-1]
    told_s = sum(sum(event.seconds.values()) for event in events)
    return AttemptSpan(number, first.time, max(first.time, last.time), told_s, last.step)


@dataclass(slots=True)
class _Ledger:
    # What is known up to an attempt, while they are gone through in order.
    spent: dict[Bucket, float] = field(default_factory=lambda: dict.fromkeys(Bucket, 0.0))
    highest: int = 0
    """The last step that any attempt made."""
    saves: int = 0
    saving_s: float = 0.0
    steps_made: int = 0
    stepping_s: float = 0.0
    restarts: int = 0
    restarting_s: float = 0.0

    def add(self, bucket: Bucket, seconds: float) -> None:
        self.spent[bucket] += seconds

    def account(self, span: AttemptSpan, events: Sequence[Event]) -> float:
        # Returns the seconds to the first step.
        length_s = max(span.seconds, (span.ended_at - span.started_at).total_seconds(), 0.0)
        told = self._sum_events(events)
        told_s = sum(told.values())
        scale = min(1.0, length_s / told_s) if told_s > 0 else 0.0  # a damaged file may tell more than there was
        for bucket, seconds in told.items():
            self.add(bucket, seconds * scale)
        untold_s = max(0.0, length_s - told_s * scale)
        before_s = self._account_starts(span, events, untold_s)
        self._account_tail(span, events, untold_s - before_s)
        return before_s + scale * (told.get(Bucket.STARTUP, 0.0) + told.get(Bucket.RESTORE, 0.0))

    def _sum_events(self, events: Sequence[Event]) -> dict[Bucket, float]:
        told: dict[Bucket, float] = {}
        known, step = self.highest, None
        for event in events:
            if event.name in (START, BEGIN):
                known, step = self.highest, None  # torchrun starts processes again within an attempt
            share = _share_redone(step, event.step, known)
            for bucket, seconds in event.seconds.items():
                again_s = seconds * share if bucket in _STEPPING else 0.0
                told[bucket] = told.get(bucket, 0.0) + seconds - again_s
                told[Bucket.REDONE] = told.get(Bucket.REDONE, 0.0) + again_s
            self._count(event, step)
            step = event.step if event.step is not None else step
            self.highest = max(self.highest, step or 0)
        return told

    def _count(self, event: Event, step: int | None) -> None:
        if step is not None and event.step is not None and event.step >= step:
            self.steps_made += event.step - step
            self.stepping_s += sum(event.seconds.get(bucket, 0.0) for bucket in _STEPPING)
        if event.name == SAVE:
            self.saves += 1
            self.saving_s += event.seconds.get(Bucket.SAVE, 0.0)

    def _account_starts(self, span: AttemptSpan, events: Sequence[Event], untold_s: float) -> float:
        # What a process cannot measure itself is the time before it lived.
        before_s, last_at = 0.0, span.started_at
        for event in events:
            if event.name == START:
                gap_s = (event.time - last_at).total_seconds()
                before_s += min(max(0.0, gap_s), untold_s - before_s)
            last_at = event.time
        self.add(Bucket.STARTUP, before_s)
        return before_s

    def _account_tail(self, span: AttemptSpan, events: Sequence[Event], tail_s: float) -> None:
        if not events:
            self.add(Bucket.OTHER, tail_s)
            return
        last = events[-1]
        if last.name == START:
            self.add(Bucket.STARTUP, tail_s)
            return
        lost_s = 0.0
        if last.name != END and last.step is not None and span.step is not None and span.step > last.step:
            # A save is told at once, so steps after the last line were lost with the process.
            step_s = self.stepping_s / self.steps_made if self.steps_made else tail_s
            lost_s = min(tail_s, (span.step - last.step) * step_s)
        self.add(Bucket.REDONE, lost_s)
        self.add(Bucket.OTHER, tail_s - lost_s)

    def close(self, *, is_measured: bool) -> Goodput:
        return Goodput(
            seconds=self.spent,
            is_measured=is_measured,
            saves=self.saves,
            saving_s=self.saving_s,
            steps_made=self.steps_made,
            stepping_s=self.stepping_s,
            restarts=self.restarts,
            restarting_s=self.restarting_s,
        )


def _share_redone(first: int | None, last: int | None, known: int) -> float:
    # Of the steps after `first` up to `last`, those that are not after `known`.
    if first is None or last is None or last < first:
        return 0.0
    if last == first:
        return 1.0 if last < known else 0.0
    return max(0, min(last, known) - first) / (last - first)
