"""`events.jsonl`: where the time of a run went, as the program in the job measured it; a line for some 30 seconds.

Each line tells the seconds since the line before it of the same process, by what they were spent on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

START = "start"
"""A process came to life."""
BEGIN = "begin"
"""It begins to train, from the step it names."""
STEPS = "steps"
"""It made steps."""
SAVE = "save"
"""It saved one checkpoint; what was done up to its step is kept from now on."""
END = "end"
"""It is about to leave."""
_NAMES = (START, BEGIN, STEPS, SAVE, END)
_LARGEST = 2**63


class Bucket(StrEnum):
    """What a second of a run's wall time was spent on. Every second is in one of them."""

    STARTUP = "startup"
    """From an attempt's start to its first step: imports, data, model."""
    DATA = "data"
    """Waiting for batches."""
    COMPUTE = "compute"
    """Steps, each counted once: the time that brought the run on."""
    SAVE = "save"
    """Training stood still for a checkpoint or the final model."""
    RESTORE = "restore"
    """Verifying and loading a checkpoint."""
    REDONE = "redone"
    """Steps that an earlier attempt had made, and those that were lost with it."""
    WAITING = "waiting"
    """For a machine, before the first attempt and between attempts."""
    OTHER = "other"
    """Evaluation, ending, and whatever nobody measured."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line."""

    attempt: int
    name: str
    time: datetime
    step: int | None = None
    """The last step that was made; None before the training begins."""
    seconds: Mapping[Bucket, float] = field(default_factory=dict)


def render_event(event: Event) -> bytes:
    """Return the line of an event."""
    line = {
        "time": event.time.isoformat(timespec="milliseconds"),
        "attempt": event.attempt,
        "event": event.name,
        "step": event.step,
        "seconds": {bucket.value: round(seconds, 6) for bucket, seconds in event.seconds.items() if seconds > 0},
    }
    return json.dumps(line).encode()


def parse_events(records: Iterable[Mapping[str, Any]]) -> Iterator[Event]:
    """Yield the events among the records of a file, in order; a record that is none of ours is left out."""
    for record in records:
        event = _parse(record)
        if event is not None:
            yield event


def _parse(record: Mapping[str, Any]) -> Event | None:
    attempt, step, name = record.get("attempt"), record.get("step"), record.get("event")
    spent = record.get("seconds")
    try:
        moment = datetime.fromisoformat(record.get("time", ""))
    except (TypeError, ValueError):
        return None
    if not _is_whole(attempt) or name not in _NAMES or not (step is None or _is_whole(step)):
        return None
    if not isinstance(spent, Mapping) or not all(map(_is_seconds, spent.values())) or not set(spent) <= set(Bucket):
        return None
    seconds = {Bucket(bucket): float(value) for bucket, value in spent.items()}
    return Event(int(attempt or 0), str(name), _aware(moment), step, seconds)


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _LARGEST
