"""The view of a run or a sweep, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from nexa_cli.output import print_pairs, print_table, printable
from nexa_contracts.units import format_count, format_duration, format_usd
from nexa_infra.operations.status import RunView, SubmissionView

_SHOWN_FAILURES = 5
_SHOWN_MEMBERS = 40


def print_view(view: SubmissionView) -> None:
    """Print how a run or a sweep is doing."""
    if len(view.runs) == 1 and view.submission == view.runs[0].run_id:
        _print_run(view.runs[0])
        return
    counts = describe_counts(view.counts)
    unknown = f", {view.unknown_costs} of unknown price" if view.unknown_costs else ""
    runs = format_count(len(view.runs), "run")
    click.echo(f"{view.submission}: {runs}: {counts}; cost so far {format_usd(view.known_cost)}{unknown}")
    shown = view.runs[:_SHOWN_MEMBERS]
    keys = list(dict.fromkeys(key for run in shown for key in run.point))
    first = 1 + len(keys)
    print_table(
        ["run", *(key.rsplit(".", 1)[-1] for key in keys), "state", "step", "loss", "eval loss", "time", "cost"],
        [
            [
                run.run_id, *(_value(run.point.get(key)) for key in keys), run.label, describe_steps(run) or "-",
                _number(_loss(run)) or "-", _number(run.metrics.get("eval_loss", run.progress.eval_loss)) or "-",
                format_duration(run.seconds), format_usd(run.cost),
            ]
            for run in shown
        ],
        right=(*range(1, first), *range(first + 1, first + 6)),
        optional=(first + 4, first + 2, first + 5),
    )  # fmt: skip
    _print_reasons(shown)
    if len(view.runs) > len(shown):
        click.echo(f"… and {len(view.runs) - len(shown)} more: nexa runs --where sweep={view.submission}")
    failed = [run for run in view.runs if run.failure]
    for run in failed[:_SHOWN_FAILURES]:
        click.echo(f"{run.run_id}: {printable(run.failure or '')}")
        _print_evidence(run)
    if failed:
        click.echo(f"run what is missing or failed: nexa sweep --resume {view.submission}")


def describe_counts(counts: Mapping[str, int]) -> str:
    """Return numbers of runs by state as `2 succeeded, 1 failed`."""
    return ", ".join(f"{number} {state.lower()}" for state, number in counts.items())


def describe_steps(run: RunView) -> str | None:
    """Return `step/all`; None when the run has not said."""
    step, total = run.progress.step, run.progress.max_steps
    if step is None:
        return None
    return str(step) if total is None else f"{step}/{total}"


def _print_reasons(runs: Sequence[RunView]) -> None:
    # Most members wait for the same.
    waiting: dict[str, list[str]] = {}
    for run in runs:
        if run.reason:
            waiting.setdefault(run.reason, []).append(run.run_id)
    for reason, run_ids in waiting.items():
        click.echo(f"{run_ids[0] if len(run_ids) == 1 else format_count(len(run_ids), 'run')}: {printable(reason)}")


def _print_run(run: RunView) -> None:
    speed = run.progress.tokens_per_s
    click.echo(f"{run.run_id}: {run.label}" + (f" ({run.reason})" if run.reason else ""))
    print_pairs(
        {
            "name": run.name,
            "attempt": None if run.attempt is None else str(run.attempt),
            "step": describe_steps(run),
            "loss": _number(_loss(run)),
            "tokens/s now": None if run.state.is_final or speed is None else f"{speed:,.0f}",
            "time": format_duration(run.seconds),
            "time left": None if run.state.is_final else format_duration(run.progress.seconds_left),
            "cost": format_usd(run.cost),
            **{name: _number(value) for name, value in run.metrics.items()},
            **{f"attempt {number}": ended for number, ended in run.earlier.items()},
            "failure": run.failure,
        },
        indent=2,
    )
    _print_evidence(run)


def _print_evidence(run: RunView) -> None:
    for line in run.evidence:
        if line not in (run.failure or ""):  # what says it all is told once
            click.echo(f"    {printable(line)}")


def _loss(run: RunView) -> float | None:
    # What the run concluded, which is what every list shows of it; until then what it said last.
    return run.metrics.get("loss", run.progress.loss)


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"


def _value(value: object) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
