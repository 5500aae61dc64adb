"""`metrics.jsonl`: what the program in a job says of itself, a JSON object a line. It need not be a program of ours.

Only JSON is read, so that commands that watch runs start fast.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

_TAIL_BYTES = 64 * 1024
_LONG_TAIL_BYTES = 1024 * 1024
_LARGEST = 2**63
"""No step and no number of tokens gets here; a larger whole number is a mistake of the program."""
_MOST_NAMES = 200
_LONGEST_NAME = 100
_NO_RESULT = frozenset({"time", "attempt", "step", "max_steps", "tokens", "epoch", "learning_rate", "grad_norm"})
"""Where a line stands, or of the last step only: nothing that a run has achieved."""


@dataclass(frozen=True, slots=True)
class LastValues:
    """The newest finite value of each metric. None: it was not said."""

    steps: int | None = None
    tokens: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Yield every whole record of a metrics file, in order; a missing file has none."""
    stream = _open(path)
    if stream is None:
        return
    with stream:
        for line in stream:
            record = _parse(line)
            if record is not None:
                yield record


def read_new_records(path: Path, *, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Return the whole records that begin at or after a byte of a metrics file, and the byte that comes after them.

    At most 1 MiB is read at a time; a missing file has none.
    """
    stream = _open(path)
    if stream is None:
        return [], offset
    with stream:
        stream.seek(offset)
        text = stream.read(_LONG_TAIL_BYTES)
    end = text.rfind(b"\n") + 1
    if not end and len(text) == _LONG_TAIL_BYTES:
        end = len(text)  # no record is so long; what follows it may be one
    records = [_parse(line) for line in text[:end].splitlines(keepends=True)]
    return [record for record in records if record is not None], offset + end


def read_last_records(path: Path, *, tail_bytes: int = _TAIL_BYTES) -> list[dict[str, Any]]:
    """Return the whole records in the last part of a metrics file, in order; a missing file has none."""
    stream = _open(path)
    if stream is None:
        return []
    with stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - tail_bytes))
        lines = stream.read(tail_bytes).splitlines(keepends=True)
    if size > tail_bytes:
        lines = lines[1:]
    return [record for record in map(_parse, lines) if record is not None]


def collect_last_values(path: Path, *, after_attempt: int = 0) -> LastValues:
    """Return what the last MiB of a metrics file says, of the attempts after that one; all of it after none.

    At most 200 metrics with names of at most 100 printable characters; what cannot be read says nothing.
    """
    try:
        records = read_last_records(path, tail_bytes=_LONG_TAIL_BYTES)
    except OSError:
        return LastValues()
    steps = tokens = None
    metrics: dict[str, float] = {}
    for record in records:
        if after_attempt and (read_whole(record.get("attempt")) or 0) <= after_attempt:
            continue
        steps = _counted(record.get("step"), steps)
        tokens = _counted(record.get("tokens"), tokens)
        for name, value in record.items():
            number = read_number(value)
            if number is None or not math.isfinite(number) or not _is_name(name):
                continue
            if name in metrics or len(metrics) < _MOST_NAMES:
                metrics[name] = number
    return LastValues(steps, tokens, metrics)


def read_whole(value: object) -> int | None:
    """Return a value of a record that is a whole number of a size that can be meant, else None."""
    is_whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST
    return value if isinstance(value, int) and is_whole else None


def read_number(value: object) -> float | None:
    """Return a value of a record that is a number, else None. NaN stays: a person who watches wants to see it."""
    if isinstance(value, float):
        return value
    whole = read_whole(value)
    return None if whole is None else float(whole)


def _open(path: Path) -> BinaryIO | None:
    try:
        # A pipe that a program put there would be waited on for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return os.fdopen(descriptor, "rb")


def _counted(value: object, default: int | None) -> int | None:
    whole = read_whole(value)
    return default if whole is None or whole < 0 else whole


def _is_name(text: str) -> bool:
    return text not in _NO_RESULT and len(text) <= _LONGEST_NAME and text.isprintable()


def _parse(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None  # a line cut by a crash; what follows it is whole again
    return record if isinstance(record, dict) else None
