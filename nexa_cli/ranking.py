"""From the index to the leaderboard: which runs, by what, and their curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from nexa_cli.output import note
from nexa_cli.rows import describe_point
from nexa_contracts.errors import MissingExtra
from nexa_contracts.sweep import Objective
from nexa_eval.curves import Curve, draw_curves
from nexa_eval.leaderboard import Leaderboard, Ranked, leaderboard_path, rank_runs, write_leaderboard
from nexa_infra.operations.context import Context
from nexa_infra.operations.reconcile import settle_ended
from nexa_infra.storage.index import open_index
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import read_sweep_manifest
from nexa_infra.storage.metrics import read_metrics
from nexa_infra.storage.where import Condition, parse_where


def rank(
    context: Context,
    sweep_id: str | None = None,
    *,
    conditions: Sequence[str] = (),
    objective: Objective | None = None,
) -> Leaderboard:
    """Return the runs that ended, ranked; of a sweep's member only the newest run counts."""
    settle_ended(context)
    where = [Condition("state", "!=", "none"), *(parse_where(text) for text in conditions)]
    if sweep_id is not None:
        where.append(Condition("sweep", "=", sweep_id))
        objective = objective or read_sweep_manifest(context.project, sweep_id).config.objective
    objective = objective or Objective()
    with open_index(context.project) as index:
        rows = index.find_runs(where)
    newest: dict[object, Ranked] = {}
    for row in rows:  # newest first
        key = (row.sweep_id, row.member) if row.sweep_id is not None else row.run_id
        newest.setdefault(
            key,
            Ranked(
                rank=None,
                run_id=row.run_id,
                name=row.name,
                state=row.state or "",
                value=row.metrics.get(objective.metric),
                point=row.point,
                metrics=row.metrics,
                seconds=row.seconds,
                tokens=row.tokens,
                total_usd=row.total_usd,
            ),
        )
    return rank_runs(newest.values(), objective)


def write_files(context: Context, board: Leaderboard, sweep_id: str | None) -> list[Path]:
    """Write the day's table and the curves to durable; return the files. A missing extra is said, and is no error."""
    now = context.clock.now()
    reports = context.require_tiers().reports
    files: list[Path] = []
    curves = leaderboard_path(reports, now).with_name(f"curves_{sweep_id or f'{now:%Y%m%d}'}.png")
    try:
        files.append(write_leaderboard(reports, board, now=now))
        drawn = read_curves(context.project, board)
        if not any(curve.points for curve in drawn):
            return files
        title = f"loss of {sweep_id}" if sweep_id is not None else "loss"
        files.append(draw_curves(drawn, curves, title=title, metric="loss"))
    except MissingExtra as error:
        note(f"not written: {error}")
    return files


def read_curves(project: Project, board: Leaderboard) -> list[Curve]:
    """Return the loss of every ranked run over its steps."""
    curves: list[Curve] = []
    for row in board.rows:
        points: dict[int, float] = {}
        for record in read_metrics(project.metrics(row.run_id)):
            step, loss = record.get("step"), record.get("loss")
            if isinstance(step, int) and isinstance(loss, int | float) and abs(loss) < math.inf:  # NaN is not
                points[step] = float(loss)  # a later attempt goes over the same steps again
        label = describe_point(dict(row.point)) or row.run_id
        curves.append(Curve(label, sorted(points.items()), is_best=row is board.best))
    return curves
