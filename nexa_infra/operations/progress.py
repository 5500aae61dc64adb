"""How far a run is, from the files the job writes: the last lines of its metrics and its heartbeat.

Only JSON is read, so that commands that watch runs start fast.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nexa_infra.storage.layout import Project
from nexa_infra.storage.metrics import read_last_records, read_number, read_whole


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


def _moment(value: object) -> datetime | None:
    # A person's own program may write what it likes; a time without a zone is taken as UTC.
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment if moment is None or moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _whole(value: object, default: int | None) -> int | None:
    whole = read_whole(value)
    return default if whole is None else whole


def _number(value: object, default: float | None) -> float | None:
    number = read_number(value)
    return default if number is None else number
