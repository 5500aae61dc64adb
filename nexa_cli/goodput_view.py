"""Where a run's time went, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nexa_cli.output import note
from nexa_contracts.errors import StorageError
from nexa_contracts.units import format_count, format_duration
from nexa_infra.monitoring.goodput import Goodput
from nexa_infra.monitoring.run_events import Bucket
from nexa_infra.operations.goodput import read_goodput
from nexa_infra.storage.layout import Project

_NAMES = {
    Bucket.STARTUP: "start-up",
    Bucket.DATA: "data",
    Bucket.COMPUTE: "compute",
    Bucket.SAVE: "save",
    Bucket.RESTORE: "restore",
    Bucket.REDONE: "redone",
    Bucket.WAITING: "waiting",
    Bucket.OTHER: "other",
}


def find_goodput(project: Project, run_id: str) -> Goodput | None:
    """Return where the time of a run went; None, with a warning, where its events cannot be read."""
    try:
        return read_goodput(project, run_id)
    except StorageError as error:
        note(f"warning: {error.message}")
        return None


def describe_goodput(goodput: Goodput | None) -> dict[str, str | None]:
    """Return the lines of a section: the share, then every bucket that is not empty."""
    if goodput is None:
        return {"": "nothing is known yet"}
    return dict(_lines(goodput))


def goodput_data(goodput: Goodput | None) -> dict[str, Any] | None:
    """Return the same for a program; None: the run has not started."""
    if goodput is None:
        return None
    return {
        "goodput": goodput.share,
        "wall_s": goodput.wall_s,
        "seconds": {bucket.value: seconds for bucket, seconds in goodput.seconds.items()},
        "is_measured": goodput.is_measured,
        "steps_made": goodput.steps_made,
        "step_s": goodput.step_s,
        "saves": goodput.saves,
        "save_s": goodput.save_s,
        "restarts": goodput.restarts,
        "restart_s": goodput.restart_s,
    }


def _lines(goodput: Goodput) -> Iterator[tuple[str, str]]:
    wall_s = goodput.wall_s
    of = f"of {format_duration(wall_s)} from launch to end"
    yield (
        "goodput",
        f"unknown: the program tells no events; {of[3:]}" if goodput.share is None else (f"{goodput.share:.1%} {of}"),
    )
    for bucket, name in _NAMES.items():
        seconds = goodput.seconds[bucket]
        if seconds > 0:
            yield name, f"{format_duration(seconds)} ({seconds / wall_s:.1%}){_detail(goodput, bucket)}"


def _detail(goodput: Goodput, bucket: Bucket) -> str:
    if bucket is Bucket.SAVE and goodput.save_s is not None:
        return f", {format_count(goodput.saves, 'checkpoint')} of {goodput.save_s:.2g}s"
    return ""
