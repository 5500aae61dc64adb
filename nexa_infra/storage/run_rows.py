"""What the index keeps of a run: the columns, and how they are picked from the text of a manifest file.

Plain JSON instead of the contracts: reading 300,000 files must not cost a schema check each, and a listing must not
load pydantic.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

SUPPORTED_SCHEMA = 1
MANIFEST, OUTCOME, COST = 1, 2, 4
"""Bits of the files that are there for a run."""
SQLITE_INT = 2**63

Record = tuple[Any, ...]


class BadRecord(ValueError):
    """A manifest file does not look as it must; the text says why."""


class RunRow(NamedTuple):
    """A run as the index knows it. Times are Unix seconds; None means not known, or not yet."""

    run_id: str
    sweep_id: str | None
    member: int | None
    """Index in the sweep."""
    name: str
    created_s: float
    backend: str
    state: str | None
    """The final state; None until the run has an outcome."""
    ended_s: float | None
    seconds: float | None
    """Of all attempts together."""
    attempts: int | None
    steps: int | None
    tokens: int | None
    loss: float | None
    eval_loss: float | None
    gpu_type: str | None
    gpus: int
    """GPUs of all nodes."""
    total_usd: float | None
    """None: no cost manifest yet, or its rate is unknown; `is_costed` tells which."""
    is_costed: int
    estimate_usd: float | None
    resumes: str | None
    failure: str | None
    """`kind: message` of what ended it badly."""
    point_json: str
    tags_json: str
    metrics_json: str | None

    @property
    def created_at(self) -> datetime:
        """When the run was launched, in UTC."""
        return datetime.fromtimestamp(self.created_s, UTC)

    @property
    def ended_at(self) -> datetime | None:
        """When the run ended, in UTC."""
        return None if self.ended_s is None else datetime.fromtimestamp(self.ended_s, UTC)

    @property
    def point(self) -> dict[str, Any]:
        """The sweep point, by dotted config key."""
        return dict(json.loads(self.point_json))

    @property
    def tags(self) -> dict[str, str]:
        """The config's tags."""
        return dict(json.loads(self.tags_json))

    @property
    def metrics(self) -> dict[str, float]:
        """The final metrics; empty until the run has an outcome."""
        return dict(json.loads(self.metrics_json)) if self.metrics_json else {}


class SweepRow(NamedTuple):
    """A sweep as the index knows it."""

    sweep_id: str
    name: str
    created_s: float
    run_count: int
    metric: str
    direction: str


MANIFEST_COLUMNS = (
    "sweep_id", "idx", "name", "created_s", "backend", "gpu_type", "gpus", "estimate_usd", "resumes", "point", "tags",
)  # fmt: skip
OUTCOME_COLUMNS = (
    "state",
    "ended_s",
    "seconds",
    "attempts",
    "steps",
    "tokens",
    "loss",
    "eval_loss",
    "failure",
    "metrics",
)
COST_COLUMNS = ("total_usd",)
SWEEP_COLUMNS = ("name", "created_s", "count", "metric", "direction")


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


def parse_record(kind: str, identity: str, raw: bytes) -> tuple[Record, str | None]:
    """Return the columns of a file's kind, in their order, and for a run its config as compact JSON.

    Raises:
        ValueError: it is not JSON. BadRecord: it is of a newer version, or lacks what its kind must have.
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
        raise BadRecord(f"{key}: found {found.get(key)!r}; the file's name says {identity}")
    try:
        return _PARSERS[kind](found)
    except KeyError as error:
        raise BadRecord(f"{error.args[0]}: missing") from error
    except (TypeError, AttributeError) as error:
        raise BadRecord(f"not of the expected shape: {error}") from error


def _parse_run(found: dict[str, Any]) -> tuple[Record, str | None]:
    config = found["config"]
    resources = config["resources"]
    resumes = found.get("resumes")
    record = (
        _text(found.get("sweep_id")),
        _whole(found.get("index")),
        _text(found["name"]),
        _seconds(found["created_at"]),
        _text(found["backend"]),
        _text(resources.get("gpu_type")),
        (_whole(resources.get("nodes")) or 1) * (_whole(resources.get("gpus_per_node")) or 0),
        _number(found["estimate"]["total"]),
        _text(resumes["run_id"]) if resumes else None,
        _compact(found.get("point", {})),
        _compact(config.get("tags", {})),
    )
    return record, _compact(config)


def _parse_outcome(found: dict[str, Any]) -> tuple[Record, str | None]:
    metrics = found.get("metrics", {})
    failure = found.get("failure")
    record = (
        _text(found["state"]),
        _seconds(found["ended_at"]),
        _number(found["seconds"]),
        _whole(found["attempts"]),
        _whole(found.get("steps")),
        _whole(found.get("tokens")),
        _number(metrics.get("loss")),
        _number(metrics.get("eval_loss")),
        _text(f"{failure['kind']}: {failure['message']}") if failure else None,
        _compact(metrics),
    )
    return record, None


def _parse_cost(found: dict[str, Any]) -> tuple[Record, str | None]:
    return (_number(found["total"]),), None


def _parse_sweep(found: dict[str, Any]) -> tuple[Record, str | None]:
    objective = found["config"]["objective"]
    record = (
        _text(found["name"]),
        _seconds(found["created_at"]),
        _whole(found["count"]),
        _text(objective["metric"]),
        _text(objective["direction"]),
    )
    return record, None


_PARSERS: dict[str, Callable[[dict[str, Any]], tuple[Record, str | None]]] = {
    "run": _parse_run,
    "outcome": _parse_outcome,
    "cost": _parse_cost,
    "sweep": _parse_sweep,
}


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadRecord(f"found {value!r:.60}; allowed: a text")
    value.encode()  # half of a surrogate pair cannot be stored: UnicodeEncodeError is a ValueError
    return value


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


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
