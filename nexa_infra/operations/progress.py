"""How far a run is, from the files the job writes: the last lines of its metrics and its heartbeat.

Only JSON is read, so that commands that watch runs start fast.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nexa_infra.storage.layout import Project

_TAIL_BYTES = 64 * 1024
_LARGEST = 2**63
"""No step and no number of tokens gets here; a larger whole number is a mistake of the program."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a run last said of itself. None: it has not said."""

    step: int | None = None
    max_steps: int | None = None
    loss: float | None = None
    eval_loss: float | None = None
    tokens: int | None = None
    tokens_per_s: float | None = None
    seconds_left: float | None = None
    heartbeat_at: str | None = None


def read_progress(project: Project, run_id: str) -> Progress:
    """Return the newest progress of a run; a line that is being written is left for the next look."""
    step = max_steps = tokens = None
    loss = eval_loss = rate = None
    records = read_last_records(project.metrics(run_id))
    for record in records:
        step = _whole(record.get("step"), step)
        tokens = _whole(record.get("tokens"), tokens)
        loss = _number(record.get("loss"), loss)
        eval_loss = _number(record.get("eval_loss"), eval_loss)
        rate = _number(record.get("tokens_per_s"), rate)
    beat = read_object(project.heartbeat(run_id))
    beaten = _whole(beat.get("step"), None)
    # Whichever was written last: the heartbeat comes every few seconds, the metrics every so many steps.
    step = step if beaten is None else max(beaten, step or 0)
    max_steps = _whole(beat.get("max_steps"), None)
    at = beat.get("time")
    return Progress(
        step=step,
        max_steps=max_steps,
        loss=loss,
        eval_loss=eval_loss,
        tokens=tokens,
        tokens_per_s=rate,
        seconds_left=_seconds_left(records, step, max_steps),
        heartbeat_at=at if isinstance(at, str) else None,
    )


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Yield every whole record of a metrics file, in order; a missing file has none."""
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        return
    with stream:
        for line in stream:
            record = _parse(line)
            if record is not None:
                yield record


def read_last_records(path: Path) -> list[dict[str, Any]]:
    """Return the whole records in the last 64 KiB of a metrics file, in order."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - _TAIL_BYTES))
            lines = stream.read().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    if size > _TAIL_BYTES:
        lines = lines[1:]
    return [record for record in map(_parse, lines) if record is not None]


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; empty when there is none."""
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _seconds_left(records: Sequence[dict[str, Any]], step: int | None, max_steps: int | None) -> float | None:
    # From the pace between the first and the last step in sight; an attempt before this one says nothing of the pace.
    if not records or step is None or max_steps is None:
        return None
    attempt = records[-1].get("attempt")
    logged = (record for record in records if record.get("attempt") == attempt and "loss" in record)
    points = [
        (at_step, at)
        for record in logged
        if (at_step := _whole(record.get("step"), None)) is not None and (at := _moment(record.get("time"))) is not None
    ]
    if len(points) < 2 or points[-1][0] <= points[0][0]:
        return None
    pace_s = (points[-1][1] - points[0][1]).total_seconds() / (points[-1][0] - points[0][0])
    return max(0.0, pace_s * (max_steps - step))


def _parse(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None  # a line cut by a crash; what follows it is whole again
    return record if isinstance(record, dict) else None


def _moment(value: object) -> datetime | None:
    # A person's own program may write what it likes; a time without a zone is taken as UTC.
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment if moment is None or moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _whole(value: object, default: int | None) -> int | None:
    is_whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST
    return value if isinstance(value, int) and is_whole else default


def _number(value: object, default: float | None) -> float | None:
    # NaN stays: a person who watches a run wants to see it.
    if isinstance(value, float):
        return value
    whole = _whole(value, None)
    return default if whole is None else float(whole)
