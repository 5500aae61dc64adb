"""`nexa leaderboard`: runs ranked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nexa_cli.arguments import FIELD, SWEEP

if TYPE_CHECKING:
    from nexa_eval.leaderboard import Leaderboard
    from nexa_infra.operations.context import Context


@click.command()
@click.argument("sweep", required=False, type=SWEEP)
@click.option("-w", "--where", "conditions", multiple=True, type=FIELD, metavar="CONDITION", help="As in `nexa runs`.")
@click.option("--metric", help="What to rank by; default: the sweep's objective, else eval_loss.")
@click.option("--maximize", is_flag=True, help="More is better.")
@click.option(
    "--write/--no-write",
    default=None,
    help="Write the table and the curves to evals/reports on durable.  [default: unless runs of several sweeps or "
    "names are ranked together]",
)
@click.option("--plot", is_flag=True, help="Draw the curves in the terminal too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    sweep: str | None,
    conditions: tuple[str, ...],
    metric: str | None,
    maximize: bool,
    write: bool | None,
    plot: bool,
    as_json: bool,
) -> None:
    """Rank the runs of SWEEP, or all runs, by a metric; write the table (Parquet) and the curves (PNG).

    `last` is the newest sweep.

    \b
    Example:
      nexa leaderboard last
      nexa leaderboard --where tag.team=vision --metric eval_loss
    """
    from dataclasses import asdict

    from nexa_cli.naming import find_sweep
    from nexa_cli.output import note, print_json
    from nexa_cli.ranking import rank, write_files
    from nexa_cli.unreadable import warn_of_unreadable
    from nexa_infra.operations.context import open_context

    context = open_context()
    sweep_id = None if sweep is None else find_sweep(context.project, sweep)
    board = rank(context, sweep_id, conditions=conditions, metric=metric, maximize=maximize)
    is_mixed = len(board.origins) > 1
    writes = not is_mixed if write is None else write
    files = write_files(context, board, sweep_id) if writes and board.rows else []
    warn_of_unreadable(context.project)
    if as_json:
        rows = [asdict(row) for row in board.rows]
        print_json({"objective": board.objective.model_dump(), "rows": rows, "files": [str(path) for path in files]})
        return
    _print(board, files)
    if is_mixed:
        note(f"runs of {len(board.origins)} sweeps or names are ranked together; one sweep: nexa leaderboard SWEEP"
             + ("" if writes else "; nothing was written, which --write does"))  # fmt: skip
    if plot:
        _plot(context, board)


def write_and_print(context: Context, sweep_id: str) -> Leaderboard:
    """Rank a sweep's runs, write the table and the curves, print both, and return the ranking."""
    from nexa_cli.ranking import rank, write_files
    from nexa_cli.unreadable import warn_of_unreadable

    board = rank(context, sweep_id)
    _print(board, write_files(context, board, sweep_id))
    warn_of_unreadable(context.project)
    return board


def _print(board: Leaderboard, files: list[Path]) -> None:
    from nexa_cli.output import note, print_table
    from nexa_eval.leaderboard import render_rows

    if not board.rows:
        note("no run has ended")
        return
    headers, cells = render_rows(board)
    if board.best is None:
        note(f"no run has the metric {board.objective.metric}; see `nexa show` for those there are")
    right = [0, *(column for column in range(2, len(headers)) if headers[column] != "name")]
    spare = [headers.index(name) for name in ("seconds", "bits/byte", "cost") if name in headers]
    print_table(headers, cells, right=right, optional=spare)
    for path in files:
        click.echo(f"written to {path}")


def _plot(context: Context, board: Leaderboard) -> None:
    import os
    import shutil
    import sys

    from nexa_cli.ranking import read_curves
    from nexa_eval.curves import render_curves

    size = shutil.get_terminal_size()
    is_coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    curves = read_curves(context.project, board)
    height = min(24, size.lines - 2)
    click.echo(render_curves(curves, width=size.columns, height=height, title="loss", is_coloured=is_coloured))
