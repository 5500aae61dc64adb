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
    from nexa_infra.operations.status import RunView, SubmissionView


def print_summary(context: Context, view: SubmissionView, *, as_json: bool) -> None:
    """Print how a run or sweep ended; for a sweep with the leaderboard and its files."""
    if as_json:
        print_json(asdict(view) | {"counts": view.counts})
        return
    if not is_sweep_id(view.submission):
        print_view(view)
        _print_next_for_run(context, view.runs[0])
        return
    failed = [run for run in view.runs if run.state != JobState.SUCCEEDED]
    ranked = _print_leaderboard(context, view) if len(failed) < len(view.runs) else []
    for run in failed:
        click.echo(f"{run.run_id}: {run.state}" + (f": {printable(run.failure)}" if run.failure else ""))
    seconds = sum(run.seconds or 0.0 for run in view.runs)
    unknown = f", and {view.unknown_costs} of unknown price" if view.unknown_costs else ""
    click.echo(f"cost: {format_count(len(view.runs), 'run')}, {format_duration(seconds)} of compute, "
               f"{format_usd(view.known_cost)}{unknown}")  # fmt: skip
    _print_next_for_sweep(view, ranked, failed=[run.run_id for run in failed])
    study = context.tiers.study(view.submission)
    if study.exists():
        from nexa_infra.operations.studies import render_dashboard

        click.echo(f"  {render_dashboard(study)}     its trials in a browser")


def _print_leaderboard(context: Context, view: SubmissionView) -> list[str]:
    from nexa_cli.leaderboard_command import write_and_print

    try:
        board = write_and_print(context, view.submission)
    except NexaError as error:
        note(f"no leaderboard: {error}")
        return []
    return [row.run_id for row in board.rows if row.rank is not None]


def _print_next_for_run(context: Context, run: RunView) -> None:
    click.echo("next:")
    saved = context.tiers.checkpoints_temp(run.run_id)
    if run.state != JobState.SUCCEEDED and next(saved.glob("checkpoint-*"), None) is not None:
        click.echo(f"  nexa launch FILE --resume {run.run_id}     go on from its newest whole checkpoint")
    click.echo(f"  nexa show {run.run_id}")
    click.echo(f"  nexa logs {run.run_id}")
    click.echo("  nexa cost summary --by month")


def _print_next_for_sweep(view: SubmissionView, ranked: list[str], *, failed: list[str]) -> None:
    click.echo("next:")
    if failed:
        click.echo(f"  nexa logs {failed[0]}     what a failed run printed")
        click.echo(f"  nexa sweep --resume {view.submission}     run what failed or is missing")
    if ranked:
        click.echo(f"  nexa show {ranked[0]}     the best run")
        click.echo(f"  nexa show {ranked[0]} --reproduce     run it again")
    elif not failed:
        click.echo(f"  nexa status {view.submission}     its runs; no run has the metric of its objective")
        click.echo(f"  nexa logs {view.runs[0].run_id}")
    if len(ranked) > 1:
        click.echo(f"  nexa compare {ranked[0]} {ranked[1]}")
    click.echo("  nexa cost summary --by sweep")
