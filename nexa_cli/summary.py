"""The end of a watched run or sweep: results, leaderboard, cost, and the next commands."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from nexa_cli.output import note, print_json, printable
from nexa_cli.views import print_view
from nexa_contracts.errors import NexaError
from nexa_contracts.ids import is_sweep_id
from nexa_contracts.states import JobState
from nexa_contracts.units import format_count, format_duration, format_usd

if TYPE_CHECKING:
    from nexa_infra.operations.context import Context
    from nexa_infra.operations.status import SubmissionView

_SHOWN_EVIDENCE = 3


def print_summary(context: Context, view: SubmissionView, *, as_json: bool) -> None:
    """Print how a run or sweep ended; for a sweep with the leaderboard and its files."""
    if as_json:
        print_json(asdict(view) | {"counts": view.counts})
        return
    if not is_sweep_id(view.submission):
        print_view(view)
        _print_next_for_run(view.submission)
        return
    failed = [run for run in view.runs if run.state != JobState.SUCCEEDED]
    ranked = _print_leaderboard(context, view) if len(failed) < len(view.runs) else []
    for run in failed:
        click.echo(f"{run.run_id}: {run.state}" + (f": {printable(run.failure)}" if run.failure else ""))
        for line in run.evidence[-_SHOWN_EVIDENCE:]:
            click.echo(f"    {printable(line)}")
    seconds = sum(run.seconds or 0.0 for run in view.runs)
    unknown = f", and {view.unknown_costs} of unknown price" if view.unknown_costs else ""
    click.echo(f"cost: {format_count(len(view.runs), 'run')}, {format_duration(seconds)} of compute, "
               f"{format_usd(view.known_cost)}{unknown}")  # fmt: skip
    _print_next_for_sweep(view, ranked, has_failures=bool(failed))


def _print_leaderboard(context: Context, view: SubmissionView) -> list[str]:
    from nexa_cli.leaderboard_command import write_and_print

    try:
        board = write_and_print(context, view.submission)
    except NexaError as error:
        note(f"no leaderboard: {error}")
        return []
    return [row.run_id for row in board.rows if row.rank is not None]


def _print_next_for_run(run_id: str) -> None:
    click.echo("next:")
    click.echo(f"  nexa show {run_id}")
    click.echo(f"  nexa logs {run_id}")
    click.echo("  nexa cost summary --by month")


def _print_next_for_sweep(view: SubmissionView, ranked: list[str], *, has_failures: bool) -> None:
    click.echo("next:")
    if has_failures:
        click.echo(f"  nexa sweep --resume {view.submission}     run what failed or is missing")
    if ranked:
        click.echo(f"  nexa show {ranked[0]}     the best run")
        click.echo(f"  nexa show {ranked[0]} --reproduce     run it again")
    if len(ranked) > 1:
        click.echo(f"  nexa compare {ranked[0]} {ranked[1]}")
    click.echo("  nexa cost summary --by sweep")
