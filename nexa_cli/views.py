"""The view of a run or a sweep, as text."""

from __future__ import annotations

import click

from nexa_cli.output import print_pairs, print_table, printable
from nexa_contracts.units import format_duration, format_usd
from nexa_infra.operations.status import RunView, SubmissionView

_SHOWN_FAILURES = 5
_SHOWN_MEMBERS = 40


def print_view(view: SubmissionView) -> None:
    """Print how a run or a sweep is doing."""
    if len(view.runs) == 1 and view.submission == view.runs[0].run_id:
        _print_run(view.runs[0])
        return
    counts = ", ".join(f"{number} {state.lower()}" for state, number in view.counts.items())
    unknown = f", {view.unknown_costs} of unknown price" if view.unknown_costs else ""
    click.echo(
        f"{view.submission}: {len(view.runs)} runs: {counts}; cost so far {format_usd(view.known_cost)}{unknown}"
    )
    shown = view.runs[:_SHOWN_MEMBERS]
    print_table(
        ["run", "state", "step", "loss", "eval loss", "time", "cost"],
        [
            [
                run.run_id, str(run.state), describe_steps(run), _number(run.progress.loss),
                _number(run.metrics.get("eval_loss", run.progress.eval_loss)), format_duration(run.seconds),
                format_usd(run.cost),
            ]
            for run in shown
        ],
        right=(2, 3, 4, 5, 6),
        optional=(5, 3, 6),
    )  # fmt: skip
    if len(view.runs) > len(shown):
        click.echo(f"… and {len(view.runs) - len(shown)} more: nexa runs --where sweep={view.submission}")
    failed = [run for run in view.runs if run.failure]
    for run in failed[:_SHOWN_FAILURES]:
        click.echo(f"{run.run_id}: {printable(run.failure or '')}")
        for line in run.evidence:
            click.echo(f"    {printable(line)}")
    if failed:
        click.echo(f"run what is missing or failed: nexa sweep --resume {view.submission}")


def describe_steps(run: RunView) -> str:
    """Return `step/all`, or `-` when the run has not said."""
    step, total = run.progress.step, run.progress.max_steps
    if step is None:
        return "-"
    return str(step) if total is None else f"{step}/{total}"


def _print_run(run: RunView) -> None:
    click.echo(f"{run.run_id}: {run.state}" + (f" ({run.reason})" if run.reason else ""))
    print_pairs(
        {
            "name": run.name,
            "attempt": None if run.attempt is None else str(run.attempt),
            "step": describe_steps(run),
            "loss": _number(run.progress.loss),
            "tokens/s": None if run.progress.tokens_per_s is None else f"{run.progress.tokens_per_s:,.0f}",
            "time": format_duration(run.seconds),
            "time left": None if run.state.is_final else format_duration(run.progress.seconds_left),
            "cost": format_usd(run.cost),
            **{name: _number(value) for name, value in run.metrics.items()},
            "failure": run.failure,
        },
        indent=2,
    )
    for line in run.evidence:
        click.echo(f"    {printable(line)}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
