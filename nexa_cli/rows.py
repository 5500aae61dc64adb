"""A row of the run index, as cells and as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nexa_contracts.states import JobState
from nexa_contracts.units import format_duration, format_usd

if TYPE_CHECKING:
    from nexa_infra.operations.status import LiveState
    from nexa_infra.storage.run_rows import RunRow


def row_state(row: RunRow, live: LiveState | None) -> str:
    """Return the final state, else what the backend says, else UNKNOWN."""
    return row.state or str(live.state if live is not None else JobState.UNKNOWN)


def row_label(row: RunRow, live: LiveState | None) -> str:
    """Return the state, PRUNED for a run that its sweep's pruner ended, or NOT SUBMITTED."""
    if row.state is None and live is not None and live.is_unasked:
        return "NOT SUBMITTED"
    return row_state(row, live) if row.pruned_at_step is None else "PRUNED"


def row_cells(row: RunRow, live: LiveState | None, *, sweeps: Mapping[str, str]) -> list[str]:
    """Return the cells of `nexa runs`; with a cell for the sweep where there are any, by the name of each id."""
    sweep = "-" if row.sweep_id is None else sweeps.get(row.sweep_id, row.sweep_id)
    return [
        row.run_id,
        row.name,
        *([sweep] if sweeps else []),
        row_label(row, live),
        f"{row.created_at:%Y-%m-%d %H:%M:%S}",
        format_duration(row.seconds if row.seconds is not None else (live.seconds if live is not None else None)),
        "-" if row.eval_loss is None else f"{row.eval_loss:.4f}",
        "-" if row.loss is None else f"{row.loss:.4f}",
        format_usd(row.total_usd) if row.is_costed else "-",
        describe_point(row.point),
    ]


def row_data(row: RunRow, live: LiveState | None) -> dict[str, Any]:
    """Return the row as JSON data; times are ISO 8601 in UTC."""
    return {
        "run_id": row.run_id,
        "sweep_id": row.sweep_id,
        "index": row.member,
        "name": row.name,
        "state": row_state(row, live),
        "created_at": row.created_at.isoformat(),
        "ended_at": row.ended_at.isoformat() if row.ended_at is not None else None,
        "backend": row.backend,
        "seconds": row.seconds,
        "attempts": row.attempts,
        "steps": row.steps,
        "tokens": row.tokens,
        "gpu_type": row.gpu_type,
        "gpus": row.gpus,
        "total_usd": row.total_usd,
        "estimate_usd": row.estimate_usd,
        "resumes": row.resumes,
        "failure": row.failure,
        "pruned_at_step": row.pruned_at_step,
        "point": row.point,
        "tags": row.tags,
        "metrics": row.metrics,
    }


def describe_point(point: dict[str, Any]) -> str:
    """Return a sweep point as `learning_rate=0.0003 dropout=0.1`, the last word of each key only."""
    return " ".join(
        f"{key.rsplit('.', 1)[-1]}={value:.4g}" if isinstance(value, float) else f"{key.rsplit('.', 1)[-1]}={value}"
        for key, value in point.items()
    )
