"""The records of a run as plain data, of which anything may be damaged: a screen names what is, and shows the rest.

No contract is loaded here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexa_contracts.states import JobState
from nexa_infra.operations.progress import read_object
from nexa_infra.storage.layout import Project


def read_ended(project: Project, run_id: str) -> list[tuple[int, Mapping[str, Any]]]:
    """Return the records of a run's attempts that have ended, by number, ascending."""
    folder = project.attempts(run_id)
    if not folder.is_dir():
        return []
    records = ((int(path.stem), read_object(path)) for path in folder.glob("*.json") if path.stem.isdecimal())
    return sorted(records, key=lambda item: item[0])


def describe_end(record: Mapping[str, Any]) -> str:
    """Return how an attempt ended, from its record: its state, and the reason where there is one."""
    failure = record.get("failure")
    why = failure.get("message") if isinstance(failure, dict) else None
    state = str(record.get("state") or JobState.UNKNOWN)
    return state if why is None else f"{state}: {why}"


def find_damage(outcome: Mapping[str, Any]) -> str | None:
    """Return what keeps an outcome from being read; None for a whole one."""
    try:
        state = JobState(outcome["state"])
        float(outcome["seconds"]), int(outcome["attempts"]), (outcome.get("metrics") or {}).items()
        failure = outcome.get("failure")
        if failure:
            failure["kind"], failure["message"], tuple(failure.get("evidence") or ())
    except (LookupError, ValueError, TypeError, AttributeError, OverflowError) as error:
        return f"its outcome is damaged: {error}"
    return None if state.is_final else f"its outcome is damaged: {state} is no end"


def find_manifest_damage(manifest: Mapping[str, Any]) -> str | None:
    """Return what keeps a manifest from being read; None for a whole one."""
    try:
        cost_so_far(manifest, 0.0)
        (manifest.get("point") or {}).items()
    except (LookupError, ValueError, TypeError, AttributeError, OverflowError) as error:
        return f"its manifest is damaged: {error}"
    is_whole = isinstance(manifest.get("index"), int | None)
    return None if is_whole else "its manifest is damaged: index: found no whole number"


def cost_so_far(manifest: Mapping[str, Any], seconds: float) -> float | None:
    """Return what that many seconds of a run cost at the rate frozen in its manifest; None if the rate is unknown."""
    estimate = manifest.get("estimate") or {}
    hourly = (estimate.get("rate") or {}).get("hourly")
    units = estimate.get("units_per_run")
    return None if hourly is None or units is None else float(hourly) * int(units) * seconds / 3600
