"""Manifests, outcomes and costs as tests want them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from nexa_contracts.cost import CostBreakdown, CostEstimate, CostManifest, Rate
from nexa_contracts.resources import Resources
from nexa_contracts.run import CodeRecord, EnvironmentRecord, FailureNote, RunConfig, RunManifest, RunOutcome
from nexa_contracts.states import JobState
from nexa_contracts.sweep import Axis, SweepConfig, SweepManifest

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
SWEEP = "sweep_20261101_120000_abcd"
RATE = Rate(resource="H100-SXM", unit="gpu_hour", hourly=4.0)


def run_id_of(number: int) -> str:
    """Return the id of the run with this number; ids rise with numbers."""
    return f"run_20261101_{number // 3600:02d}{number // 60 % 60:02d}{number % 60:02d}_aaaa"


def make_manifest(number: int = 0, **changes: Any) -> RunManifest:
    """Return the manifest of a run; `tags` and `resources` go into its config."""
    config = RunConfig(
        name=changes.get("name", "tiny"),
        command=("true",),
        params={"depth": number},
        resources=changes.pop("resources", Resources()),
        tags=changes.pop("tags", {}),
    )
    fields: dict[str, Any] = {
        "run_id": run_id_of(number),
        "name": "tiny",
        "created_at": START + timedelta(minutes=number),
        "created_by": "someone",
        "project": "demo",
        "config": config,
        "config_source": "tiny.yaml",
        "backend": "local",
        "launcher": "python",
        "command": ("true",),
        "code": CodeRecord(snapshot="0" * 64, snapshot_files=1, snapshot_bytes=1),
        "environment": EnvironmentRecord(hostname="here", platform="Linux", python="3.11", python_executable="python"),
        "estimate": CostEstimate(runs=1, hours_per_run=1.0, units_per_run=1, rate=RATE, total=4.0),
    }
    return RunManifest(**{**fields, **changes})


def make_outcome(number: int = 0, **changes: Any) -> RunOutcome:
    """Return the outcome of a run that went well, unless changed."""
    fields: dict[str, Any] = {
        "run_id": run_id_of(number),
        "state": JobState.SUCCEEDED,
        "ended_at": START + timedelta(minutes=number, seconds=90),
        "attempts": 1,
        "seconds": 90.0,
        "steps": 10,
        "tokens": 1000,
        "metrics": {"loss": 3.0, "eval_loss": 3.5},
    }
    return RunOutcome(**{**fields, **changes})


def make_failure() -> FailureNote:
    """Return why a run failed."""
    return FailureNote(kind="crash", message="ValueError: 50% of the_rows are wrong")


def make_cost(number: int = 0, *, total: float | None = 0.1) -> CostManifest:
    """Return what a run cost."""
    return CostManifest(
        run_id=run_id_of(number),
        created_at=START,
        breakdown=CostBreakdown(compute_hours=0.025),
        rate=RATE,
        seconds=90.0,
        units=1,
        total=total,
    )


def make_sweep(count: int = 2) -> SweepManifest:
    """Return the manifest of a sweep."""
    base = RunConfig(command=("true",))
    config = SweepConfig(run=base, axes={"params.depth": Axis(values=tuple(range(count)))})
    return SweepManifest(
        sweep_id=SWEEP,
        name="depths",
        created_at=START,
        config=config,
        base_config=base,
        config_source="depths.yaml",
        count=count,
    )
