"""The leaderboard: runs ranked by a metric, and the day's file of it.

`leaderboard_<YYYYMMDD>.parquet` holds the day's newest ranking of each sweep by each metric. What was ranked without a
sweep is kept run by run.
"""

from __future__ import annotations

import fcntl
import io
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from nexa_contracts.errors import MissingExtra, StorageError
from nexa_contracts.sweep import Objective
from nexa_contracts.units import format_usd
from nexa_infra.storage.atomic import make_folder, replace_file, storage_errors

_EXTRA = {"eval_bits_per_byte": "bits/byte"}
"""Shown beside the metric where a run has it: it compares across vocabularies."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """One run on the leaderboard."""

    rank: int | None
    """From 1; None for a run without a finite value of the metric, which is behind all others."""
    run_id: str
    name: str
    state: str
    value: float | None
    point: Mapping[str, Any]
    metrics: Mapping[str, float]
    seconds: float | None
    tokens: int | None
    total_usd: float | None
    sweep_id: str | None = None
    pruned_at_step: int | None = None
    """Where the sweep's pruner ended it: its value is of that step, and it stands behind those that were not."""


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """Runs, best first."""

    objective: Objective
    rows: tuple[Ranked, ...]
    sweep_id: str | None = None
    """The sweep whose runs these are; None: no sweep was asked for."""

    @property
    def best(self) -> Ranked | None:
        """The first run; None when no run has the metric."""
        return self.rows[0] if self.rows and self.rows[0].rank is not None else None

    @property
    def origins(self) -> tuple[str, ...]:
        """What the runs belong to, best first: their sweeps, and the names of those that are of none."""
        return tuple(dict.fromkeys(row.sweep_id or row.name for row in self.rows))


def rank_runs(runs: Iterable[Ranked], objective: Objective, *, sweep_id: str | None = None) -> Leaderboard:
    """Return the runs ranked by the objective's metric; equal values share a rank, unknown ones come last unranked."""
    known: list[Ranked] = []
    unknown: list[Ranked] = []
    for run in runs:
        is_known = run.value is not None and math.isfinite(run.value) and run.pruned_at_step is None
        (known if is_known else unknown).append(run)
    sign = 1.0 if objective.direction == "minimize" else -1.0
    known.sort(key=lambda run: (sign * (run.value or 0.0), run.run_id))
    rows: list[Ranked] = []
    for place, run in enumerate(known, start=1):
        rank = rows[-1].rank if rows and rows[-1].value == run.value else place
        rows.append(replace(run, rank=rank))
    rows += [replace(run, rank=None) for run in sorted(unknown, key=lambda run: run.run_id)]
    return Leaderboard(objective=objective, rows=tuple(rows), sweep_id=sweep_id)


def leaderboard_path(reports: Path, now: datetime) -> Path:
    """Return the file of a day's leaderboard."""
    return reports / f"leaderboard_{now:%Y%m%d}.parquet"


def write_leaderboard(reports: Path, board: Leaderboard, *, now: datetime) -> Path:
    """Write the leaderboard into the day's file, beside what was ranked earlier that day; return the file.

    Raises:
        MissingExtra: pyarrow is not installed.
        StorageError: the file that is there is not one of ours, or the disk is full or read-only.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("eval", package="pyarrow", needed_for="writing the leaderboard") from error
    path = leaderboard_path(reports, now)
    mine = [_record(row, board, now) for row in board.rows]
    ranked = {row["run_id"] for row in mine}
    with _hold(path):
        earlier = [row for row in _read(path) if not _is_replaced(row, board, ranked)]
        table = pyarrow.Table.from_pylist([*mine, *earlier], schema=_schema(pyarrow))
        buffer = io.BytesIO()
        parquet.write_table(table, buffer)
        replace_file(path, buffer.getvalue())
    return path


def render_rows(board: Leaderboard) -> tuple[list[str], list[list[str]]]:
    """Return the headers and cells of the leaderboard as text."""
    keys = list(dict.fromkeys(key for row in board.rows for key in row.point))
    swept = [key.rsplit(".", 1)[-1] for key in keys]
    metric = board.objective.metric
    extra = [name for name in _EXTRA if name != metric and any(name in row.metrics for row in board.rows)]
    named = ["name"] if len(board.origins) > 1 else []
    pruned = ["pruned at"] if any(row.pruned_at_step is not None for row in board.rows) else []
    headers = ["#", "run", *named, *swept, metric, *pruned, *(_EXTRA[name] for name in extra), "seconds", "cost"]
    cells = [
        [
            "-" if row.rank is None else str(row.rank),
            row.run_id,
            *([row.name] if named else []),
            *(_text(row.point.get(key)) for key in keys),
            "-" if row.value is None else f"{row.value:.4f}",
            *([_text(row.pruned_at_step)] if pruned else []),
            *(_text(row.metrics.get(name)) for name in extra),
            "-" if row.seconds is None else f"{row.seconds:.0f}",
            format_usd(row.total_usd),
        ]
        for row in board.rows
    ]
    return headers, cells


@contextmanager
def _hold(path: Path) -> Iterator[None]:
    # Two sweeps that end together both read the day's file and write it anew: neither may lose the other's rows.
    make_folder(path.parent)
    with storage_errors(path, "locking"), path.with_name(".leaderboard.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read(path: Path) -> list[dict[str, Any]]:
    from pyarrow import ArrowException, parquet

    if not path.exists():
        return []
    try:
        rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    except (ArrowException, OSError) as error:
        raise StorageError(f"{path}: cannot be read as a leaderboard: {error}", hint="move it away") from error
    if rows and not {"run_id", "metric", "value"} <= rows[0].keys():
        raise StorageError(f"{path}: not a leaderboard of ours", hint="move it away")
    return rows


def _is_replaced(row: Mapping[str, Any], board: Leaderboard, ranked: Collection[str]) -> bool:
    if (row["metric"], row.get("sweep_id")) != (board.objective.metric, board.sweep_id):
        return False
    return board.sweep_id is not None or row["run_id"] in ranked


def _record(row: Ranked, board: Leaderboard, now: datetime) -> dict[str, Any]:
    objective = board.objective
    return {
        "ranked_at": now,
        "sweep_id": board.sweep_id,
        "rank": row.rank,
        "run_id": row.run_id,
        "name": row.name,
        "state": row.state,
        "metric": objective.metric,
        "direction": objective.direction,
        "value": row.value,
        "point": json.dumps(dict(row.point), sort_keys=True),
        "metrics": json.dumps(dict(row.metrics), sort_keys=True),
        "seconds": row.seconds,
        "tokens": row.tokens,
        "total_usd": row.total_usd,
    }


def _schema(pyarrow: Any) -> Any:
    text, number, whole = pyarrow.string(), pyarrow.float64(), pyarrow.int64()
    columns: Sequence[tuple[str, Any]] = [
        ("ranked_at", pyarrow.timestamp("us", tz="UTC")), ("sweep_id", text), ("rank", whole), ("run_id", text),
        ("name", text), ("state", text), ("metric", text), ("direction", text), ("value", number), ("point", text),
        ("metrics", text), ("seconds", number), ("tokens", whole), ("total_usd", number),
    ]  # fmt: skip
    return pyarrow.schema(columns)


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
