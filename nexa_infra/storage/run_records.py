"""What the index keeps of a manifest file, picked from its text.

Plain JSON instead of the contracts: reading 300,000 files must not cost a schema check each, and a listing must not
load pydantic.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

SUPPORTED_SCHEMA = 1
SQLITE_INT = 2**63


class BadRecord(ValueError):
    """A manifest file does not look as it must; the text says why."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What is kept of a file: its columns, and of a run's manifest also the config."""

    columns: tuple[Any, ...]
    config_json: str | None = None


def split_name(file_name: str) -> tuple[str, str] | None:
    """Return the kind (`run`, `outcome`, `cost`, `sweep`) and the id a file name stands for; None for other files."""
    if not file_name.endswith(".json") or file_name.startswith("."):
        return None
    stem = file_name[:-5]
    for kind in ("outcome", "cost"):
        if stem.startswith(kind + "_"):
            return kind, stem[len(kind) + 1 :]
    if stem.startswith("run_"):
        return "run", stem
    return ("sweep", stem) if stem.startswith("sweep_") else None


def parse_record(kind: str, identity: str, raw: bytes) -> Parsed:
    """Return what the index keeps of a file of this kind and id.

    Raises:
        ValueError: it is not JSON; as BadRecord, it is of a newer version, or lacks what its kind must have.
    """
    try:
        found = json.loads(raw)
    except RecursionError as error:
        raise BadRecord("nested too deep") from error
    if not isinstance(found, dict):
        raise BadRecord(f"found {type(found).__name__}; allowed: an object")
    version = found.get("schema_version", SUPPORTED_SCHEMA)
    if not isinstance(version, int) or version > SUPPORTED_SCHEMA:
        raise BadRecord(f"schema_version {version}; this version reads up to {SUPPORTED_SCHEMA}: upgrade nexa-compute")
    key = "sweep_id" if kind == "sweep" else "run_id"
    if found.get(key) != identity:
        raise BadRecord(f"{key}: found {found.get(key)!r:.60}; the file's name says {identity}")
    try:
        return _PARSERS[kind](found)
    except KeyError as error:
        raise BadRecord(f"{error.args[0]}: missing") from error
    except (TypeError, AttributeError) as error:
        raise BadRecord(f"not of the expected shape: {error}") from error


def _parse_run(found: dict[str, Any]) -> Parsed:
    config = found["config"]
    resources = config["resources"]
    resumes = found.get("resumes")
    hourly, units = _number(found["estimate"]["rate"].get("hourly")), _whole(found["estimate"].get("units_per_run"))
    asked = {
        "name": _text(found["name"]),
        "sweep_id": _optional_text(found.get("sweep_id")),
        "index": _whole(found.get("index")),
        "created_s": _seconds(found["created_at"]),
        "backend": _text(found["backend"]),
        "gpu_type": _optional_text(resources.get("gpu_type")),
        "gpus": (_whole(resources.get("nodes")) or 1) * (_whole(resources.get("gpus_per_node")) or 0),
        "estimate_usd": _number(found["estimate"]["total"]),
        "hourly_usd": None if hourly is None or units is None else hourly * units,
        "resumes": _text(resumes["run_id"]) if resumes else None,
        "point": dict(found.get("point", {})),
        "tags": dict(config.get("tags", {})),
    }
    return Parsed(columns=(_encode(asked),), config_json=_encode(config))


def _parse_outcome(found: dict[str, Any]) -> Parsed:
    failure = found.get("failure")
    ended = {
        "state": _text(found["state"]),
        "ended_s": _seconds(found["ended_at"]),
        "seconds": _number(found["seconds"]),
        "attempts": _whole(found["attempts"]),
        "steps": _whole(found.get("steps")),
        "tokens": _whole(found.get("tokens")),
        "metrics": dict(found.get("metrics", {})),
        **({"point": dict(found["point"])} if found.get("point") else {}),
        **({} if (step := _whole(found.get("pruned_at_step"))) is None else {"pruned_at_step": step}),
        "failure": f"{_text(failure['kind'])}: {_text(failure['message'])}" if failure else None,
    }
    return Parsed(columns=(_encode(ended),))


def _parse_cost(found: dict[str, Any]) -> Parsed:
    return Parsed(columns=(_encode({"total_usd": _number(found["total"])}),))


def _parse_sweep(found: dict[str, Any]) -> Parsed:
    objective = found["config"]["objective"]
    return Parsed(
        columns=(
            _storable(_text(found["name"])),
            _seconds(found["created_at"]),
            _whole(found["count"]),
            _storable(_text(objective["metric"])),
            _storable(_text(objective["direction"])),
        )
    )


_PARSERS: dict[str, Callable[[dict[str, Any]], Parsed]] = {
    "run": _parse_run,
    "outcome": _parse_outcome,
    "cost": _parse_cost,
    "sweep": _parse_sweep,
}


def _encode(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadRecord(f"found {value!r:.60}; allowed: a text")
    return value


def _optional_text(value: Any) -> str | None:
    return None if value is None else _text(value)


def _storable(text: str) -> str:
    text.encode()  # half of a surrogate pair cannot be stored: UnicodeEncodeError is a ValueError
    return text


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadRecord(f"found {value!r:.60}; allowed: a finite number")
    return float(value)


def _whole(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not -SQLITE_INT <= value < SQLITE_INT:
        raise BadRecord(f"found {value!r:.60}; allowed: a whole number")
    return value


def _seconds(value: Any) -> float:
    moment = datetime.fromisoformat(value)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
