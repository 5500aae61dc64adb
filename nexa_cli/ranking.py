"""From the index to the leaderboard: which runs, by what, and their curves."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from pathlib import Path

from nexa_cli.output import note
from nexa_cli.rows import describe_point
from nexa_contracts.errors import ConfigError, MissingExtra
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
    metric: str | None = None,
    maximize: bool = False,
) -> Leaderboard:
    """Return the runs that ended, ranked; of a sweep's member only the newest run counts.

    Raises:
        ConfigError: none of them has the metric that was asked for.
    """
    settle_ended(context)
    where = [Condition("state", "!=", "none"), *(parse_where(text) for text in conditions)]
    objective = Objective()
    if sweep_id is not None:
        where.append(Condition("sweep", "=", sweep_id))
        objective = read_sweep_manifest(context.project, sweep_id).config.objective
    if metric is not None or maximize:
        objective = Objective(metric=metric or objective.metric, direction="maximize" if maximize else "minimize")
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
                sweep_id=row.sweep_id,
                pruned_at_step=row.pruned_at_step,
            ),
        )
    board = rank_runs(newest.values(), objective, sweep_id=sweep_id)
    if metric is not None and board.rows and board.best is None:
        raise _refuse(metric, board)
    return board


def _refuse(metric: str, board: Leaderboard) -> ConfigError:
    known = sorted({name for row in board.rows for name in row.metrics})
    close = difflib.get_close_matches(metric, known, n=1, cutoff=0.6)
    nearest = f" did you mean {close[0]}?" if close else ""
    return ConfigError(f"--metric: found {metric!r};{nearest} the runs have: {', '.join(known) or 'no metrics'}")


def write_files(context: Context, board: Leaderboard, sweep_id: str | None) -> list[Path]:
    """Write the day's table, if there is anything to rank by, and the curves to durable; return the files.

    A missing extra is said, and is no error.
    """
    now = context.clock.now()
    reports = context.require_tiers().reports
    files: list[Path] = []
    curves = leaderboard_path(reports, now).with_name(f"curves_{sweep_id or f'{now:%Y%m%d}'}.png")
    try:
        if board.best is not None:
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
