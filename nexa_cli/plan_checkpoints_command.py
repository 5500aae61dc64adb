"""`nexa plan-checkpoints`: how often to save."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nexa_cli.arguments import RUN

if TYPE_CHECKING:
    from nexa_infra.operations.checkpoint_plan import CheckpointPlan


@click.command()
@click.argument("run", required=False, type=RUN)
@click.option("--save-seconds", type=click.FloatRange(0, min_open=True), help="Seconds that one checkpoint takes.")
@click.option("--mttf", metavar="DURATION", help="Mean time between failures of one node, as 264d.")
@click.option("--nodes", type=click.IntRange(1), help="Nodes of the job; default: those of RUN, or 1.")
@click.option("--restart-seconds", type=click.FloatRange(0), help="Seconds from a failure to the next step.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    run: str | None,
    save_seconds: float | None,
    mttf: str | None,
    nodes: int | None,
    restart_seconds: float | None,
    as_json: bool,
) -> None:
    """Recommend how often to save, and say what each choice costs.

    What is not given is measured: on RUN how long a save, a step and a restart take, on all attempts of this project
    how often machines fail. The interval is the one of Young and Daly.

    \b
    Example:
      nexa plan-checkpoints last
      nexa plan-checkpoints --save-seconds 30 --mttf 264d --nodes 2048 --restart-seconds 600
    """
    import math
    from dataclasses import asdict

    from nexa_cli.naming import find_run
    from nexa_cli.output import print_json
    from nexa_infra.operations.checkpoint_plan import PlanRequest, plan_checkpoints
    from nexa_infra.operations.context import open_project

    if run is None and save_seconds is None:
        raise click.UsageError("found neither RUN nor --save-seconds; how long a save takes must come from one of them")
    for name, value in (("--save-seconds", save_seconds), ("--restart-seconds", restart_seconds)):
        if value is not None and not math.isfinite(value):
            raise click.UsageError(f"{name}: found {value}; allowed: a finite number of seconds")
    project = open_project()
    plan = plan_checkpoints(
        project,
        PlanRequest(
            run_id=None if run is None else find_run(project, run),
            save_s=save_seconds,
            node_mttf_s=None if mttf is None else _parse_duration(mttf),
            nodes=nodes,
            restart_s=restart_seconds,
        ),
    )
    if as_json:
        is_enough = plan.fleet is None or plan.fleet.is_enough
        print_json(asdict(plan) | {"is_enough_evidence": is_enough})
    else:
        _print_plan(plan)


def _parse_duration(text: str) -> float:
    from nexa_contracts.units import parse_duration_s

    try:
        return parse_duration_s(text)
    except ValueError as error:
        raise click.UsageError(f"--mttf: {error}") from error


def _print_plan(plan: CheckpointPlan) -> None:
    from nexa_cli.output import note, print_pairs, print_table
    from nexa_contracts.units import format_count, format_duration

    is_bound = plan.fleet is not None and not plan.fleet.failures
    if plan.fleet is not None and not plan.fleet.is_enough:
        certainty = "; machines fail at most so often, with 95 % certainty" if is_bound else ""
        note(f"too little evidence: {_count_failures(plan)}{certainty}; give --mttf T if you know better")
    steps = "" if plan.every_steps is None else f", checkpoints.every_steps {plan.every_steps:,}"
    click.echo(f"save every {format_duration(plan.interval_s)} of training{steps}")
    often = f"{'at most ' if is_bound else ''}one in {_format_long(plan.mttf_s)}"
    print_pairs(
        {
            "save": f"{plan.save_s:.3g}s, {_origin(plan.saves, 'save')}",
            "restart": "unknown, counted as nothing" if plan.restart_s is None else format_duration(plan.restart_s),
            "failure": f"{often} for {format_count(plan.nodes, 'node')}, {_evidence(plan)}",
        },
        indent=2,
    )
    rows = []
    for choice in plan.choices:
        of_steps = "" if plan.step_s is None else f"{max(1, round(choice.interval_s / plan.step_s)):,}"
        rows.append([choice.name, format_duration(choice.interval_s), of_steps, f"{choice.lost:.2%}"])
    print_table(["choice", "interval", "steps", "time lost"], rows, right=(1, 2, 3))


def _origin(measured: int | None, noun: str) -> str:
    from nexa_contracts.units import format_count

    return "given" if measured is None else f"the mean of {format_count(measured, noun)}"


def _evidence(plan: CheckpointPlan) -> str:
    return "given" if plan.fleet is None else f"from {_count_failures(plan)}"


def _count_failures(plan: CheckpointPlan) -> str:
    from nexa_contracts.units import format_count

    if plan.fleet is None:
        return ""
    return f"{format_count(plan.fleet.failures, 'failure')} in {plan.fleet.node_hours:,.3g} node hours"


def _format_long(seconds: float) -> str:
    from nexa_contracts.units import format_duration

    return f"{seconds / 86_400:.1f} days" if seconds >= 2 * 86_400 else format_duration(seconds)
