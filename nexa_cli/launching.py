"""What `launch` and `sweep` share: the plan on the screen, the watching, and the end of it."""

from __future__ import annotations

import json
import shlex
import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from nexa_cli.output import note, print_json, print_pairs, printable
from nexa_contracts.exit_codes import CommandExit
from nexa_contracts.states import JobState
from nexa_contracts.units import format_count, format_duration, format_usd

if TYPE_CHECKING:
    from nexa_contracts.cost import CostEstimate
    from nexa_infra.health.ledger import Quarantine
    from nexa_infra.operations.context import Context
    from nexa_infra.operations.submitting import Launched

_SHOWN_RUNS = 10
_SHOWN_COMMANDS = 5
_FAR = frozenset({"slurm"})
"""Backends whose jobs may wait for hours: a command returns once they have answered."""


def print_plan(launched: Launched, *, as_json: bool, submits: bool = True) -> None:
    """Print what a launch would do: jobs, command, files, cost, and how to do it; `submits`: it would hand all over."""
    plan = launched.plan
    if as_json:
        print_json(_as_data(launched) | {"plan": plan.model_dump(mode="json")})
        return
    runs = format_count(plan.job_count, "run")
    click.echo(f"{runs} planned on {plan.backend}, started by {plan.launcher}; nothing was written")
    needs = plan.resources
    spares = f" and {format_count(needs.spares, 'spare')}" if needs.spares else ""
    print_pairs(
        {
            "each": f"{format_count(needs.nodes, 'node')}{spares}, {format_count(needs.cpus, 'core')}, {needs.memory}, "
            f"{format_count(needs.gpus_per_node, 'GPU')}, "
            f"at most {needs.walltime}",
            "side by side": None if plan.max_parallel is None else f"at most {plan.max_parallel}",
            "left out": "; ".join(map(_describe_quarantine, launched.kept_out)) or None,
            "cost": describe_estimate(launched.estimate),
        },
        indent=2,
    )
    for file in plan.files:
        _print_file(file.path, file.text, left_out=plan.left_out)
    for argv in plan.commands[:_SHOWN_COMMANDS]:
        click.echo("  would run: " + shlex.join(argv))
    if len(plan.commands) > _SHOWN_COMMANDS:
        click.echo(f"  … and {len(plan.commands) - _SHOWN_COMMANDS} more")
    _print_warnings(launched)
    click.echo(f"launch it: the same command without --dry-run{'' if submits else ' and with --submit'}")


def is_far(launched: Launched) -> bool:
    """Whether what was launched is not waited for, because nobody can say when it begins."""
    return launched.plan.backend in _FAR


def describe_estimate(estimate: CostEstimate) -> str:
    """Return the estimate as one line: the bound, and how it is made up."""
    rate = estimate.rate
    each = "unknown price" if rate.hourly is None else f"{rate.hourly:g} USD/{rate.unit.replace('_', ' ')}"
    bound = "unknown" if estimate.total is None else f"at most {format_usd(estimate.total)} without retries"
    duration = format_duration(estimate.hours_per_run * 3600)
    makeup = f"{estimate.runs} × {duration} × {estimate.units_per_run} {rate.resource} × {each}"
    source = f"; {rate.source}, {rate.as_of}" if rate.source and rate.as_of else ""
    return f"{bound} ({makeup}{source})"


def finish(context: Context, launched: Launched, *, as_json: bool, watch: bool) -> int:
    """Say what was submitted, watch it if asked to, and return the exit status.

    A watched run or sweep ends 0 when everything succeeded, else 1.
    """
    _print_warnings(launched)
    for standing in launched.kept_out:
        note(f"left out: {_describe_quarantine(standing)}")
    if not launched.is_submitted:
        if as_json:
            print_json(_as_data(launched))
        else:
            click.echo(f"{launched.submission}: {format_count(launched.job_count, 'run')} written, not submitted")
            click.echo(f"submit them: nexa sweep --resume {launched.submission}")
        return CommandExit.DONE
    if not watch:
        if as_json:
            print_json(_as_data(launched))
        else:
            waiting = sum(not handle.job_id for handle in launched.handles)
            click.echo(f"{launched.submission}: {launched.job_count - waiting} submitted to {launched.plan.backend}, "
                       f"{describe_estimate(launched.estimate)}")  # fmt: skip
            if waiting:
                click.echo(f"{waiting} more wait for room (slurm.max_submitted); nexa watch hands them over")
            click.echo(f"watch: nexa status {launched.submission} --watch; end: nexa cancel {launched.submission}")
            if launched.study is not None:
                from nexa_infra.operations.studies import render_dashboard

                click.echo(f"its trials, once the first has begun: {render_dashboard(launched.study)}")
        return CommandExit.DONE
    from nexa_cli.live import watch_submission
    from nexa_infra.operations.reconcile import settle_costs

    try:
        view = watch_submission(context.project, launched.submission, launched.run_ids, quiet=as_json)
    except KeyboardInterrupt:
        note(f"\n{launched.submission} goes on; watch: nexa status {launched.submission} --watch; "
             f"end: nexa cancel {launched.submission}")  # fmt: skip
        return CommandExit.INTERRUPTED
    settle_costs(context, launched.run_ids)
    from nexa_cli.summary import print_summary

    print_summary(context, view, as_json=as_json)
    return CommandExit.DONE if all(run.state == JobState.SUCCEEDED for run in view.runs) else CommandExit.FAILED


def _describe_quarantine(standing: Quarantine) -> str:
    return f"{standing.node} until {standing.expires_at:%Y-%m-%d %H:%M} UTC: {standing.reason}"


def _as_data(launched: Launched) -> dict[str, Any]:
    return {
        "submission": launched.submission,
        "run_ids": list(launched.run_ids),
        "job_count": launched.job_count,
        "submitted": launched.is_submitted,
        "estimate": launched.estimate.model_dump(mode="json"),
        "warnings": list(launched.warnings),
        "left_out": [asdict(standing) for standing in launched.kept_out],
        "study": None if launched.study is None else str(launched.study),
    }


def _print_warnings(launched: Launched) -> None:
    for line in launched.warnings:
        note(f"warning: {line}")


def _print_file(path: str, text: str, *, left_out: int) -> None:
    is_spec = path.endswith("spec.json")
    size = "shortened here" if is_spec and left_out else f"{len(text.encode())} bytes"
    click.echo(f"  would write: {path} ({size})")
    if path.endswith(".sbatch"):
        click.echo(textwrap.indent(text, "    | ").rstrip())
    if not is_spec:
        return
    spec = json.loads(text)
    entries = spec["entries"]
    for index, own in list(entries.items())[:_SHOWN_RUNS]:
        entry = {**spec["common"], **own}
        point = ", ".join(f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
                          for key, value in entry["point"].items())  # fmt: skip
        command = printable(shlex.join(entry["command"]))
        click.echo(f"    {index}: {command}" + (f"  [{printable(point)}]" if point else ""))
    more = len(entries) + left_out - _SHOWN_RUNS
    if more > 0:
        click.echo(f"    … and {more} more")


def check_waiting(*, wait: bool, detach: bool) -> None:
    """Return if what is asked of the waiting can be done.

    Raises:
        UsageError: `--wait` and `--detach` are given together.
    """
    if wait and detach:
        raise click.UsageError("found --wait and --detach; allowed: one of them")


def waits(*, is_far: bool, wait: bool, detach: bool, as_json: bool) -> bool:
    """Whether a command waits for the end of what it launched: where it is asked to, and for a person at hand."""
    return wait or not (is_far or detach or as_json)
