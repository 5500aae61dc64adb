"""`nexa cost`: before and after."""

from __future__ import annotations

from pathlib import Path

import click

from nexa_cli.arguments import CONFIG_KEY, FIELD, GROUP, RUN
from nexa_contracts.units import format_count, format_duration, format_usd


@click.group()
def command() -> None:
    """Say what runs will cost and what they did cost.

    \b
    Example:
      nexa cost estimate nexa_train/configs/baseline.yaml
      nexa cost summary --by month
    """


@command.command("estimate")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--set", "sets", multiple=True, type=CONFIG_KEY, metavar="KEY=VALUE", help="Override a config key; can be repeated."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def estimate_command(file: Path, sets: tuple[str, ...], as_json: bool) -> None:
    """Bound what a run config or a sweep file will cost: every run takes its whole walltime.

    \b
    Example:
      nexa cost estimate nexa_train/sweeps/random_search.yaml --set trials=100
    """
    from nexa_cli.launching import describe_estimate
    from nexa_cli.output import print_json
    from nexa_contracts.config import parse_override
    from nexa_infra.operations.context import open_context
    from nexa_infra.operations.estimate import estimate_file

    found = estimate_file(open_context(), file, [parse_override(text) for text in sets])
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    click.echo(describe_estimate(found))


@command.command("show")
@click.argument("run", default="last", type=RUN)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_command(run: str, as_json: bool) -> None:
    """Show what one run cost, and how the amount is made up.

    \b
    Example:
      nexa cost show run_20251030_213000_k3f9
    """
    from nexa_cli.naming import find_run
    from nexa_cli.output import print_json, print_pairs
    from nexa_contracts.errors import EvidenceMissing
    from nexa_infra.operations.context import open_context
    from nexa_infra.operations.reconcile import settle_costs
    from nexa_infra.storage.manifests import find_cost

    context = open_context()
    run_id = find_run(context.project, run)
    settle_costs(context, [run_id])
    cost = find_cost(context.project, run_id)
    if cost is None:
        raise EvidenceMissing(f"{run_id}: has not ended, so its cost is not settled", hint=f"nexa status {run_id}")
    if as_json:
        print_json(cost.model_dump(mode="json"))
        return
    rate = cost.rate
    click.echo(f"{run_id}: {format_usd(cost.total)}")
    print_pairs(
        {
            "time": format_duration(cost.seconds),
            "units": f"{cost.units} × {rate.resource}",
            "compute": f"{cost.breakdown.compute_hours:.4f} {rate.unit.replace('_', ' ')}s",
            "rate": "unknown"
            if rate.hourly is None
            else f"{rate.hourly:g} {cost.currency} a {rate.unit.replace('_', ' ')}",
            "source": None if rate.source is None else f"{rate.source}, {rate.as_of}",
            "estimate": f"at most {format_usd(cost.estimate)}",
        },
        indent=2,
    )


@command.command("summary")
@click.option(
    "--by",
    type=GROUP,
    metavar="TEXT",
    default="sweep",
    show_default=True,
    help="sweep, month, gpu, name, run, tag or tag:KEY.",
)
@click.option("-w", "--where", "conditions", multiple=True, type=FIELD, metavar="CONDITION", help="As in `nexa runs`.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def summary_command(by: str, conditions: tuple[str, ...], as_json: bool) -> None:
    """Sum what runs cost; runs of unknown price are counted, and are in no sum.

    \b
    Example:
      nexa cost summary --by tag:team --where 'created>2026-11-01'
    """
    from dataclasses import asdict

    from nexa_cli.output import note, print_json, print_table
    from nexa_cli.unreadable import warn_of_unreadable
    from nexa_infra.monitoring.costs import check_group, summarize_costs
    from nexa_infra.operations.context import open_context
    from nexa_infra.operations.reconcile import settle_ended
    from nexa_infra.operations.spending import list_costed_runs

    check_group(by)
    context = open_context()
    settle_ended(context)
    runs = list_costed_runs(context.project, conditions)
    rows = summarize_costs(runs, by=by)
    warn_of_unreadable(context.project)
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    if not rows:
        note("no run has ended")
        return
    print_table(
        [by, "runs", "hours", "cost", "of unknown price"],
        [
            [row.group, str(row.runs), f"{row.hours:.3f}", format_usd(row.known_total), str(row.unknown_runs or "-")]
            for row in rows
        ],
        right=(1, 2, 3, 4),
    )
    known = sum(row.known_total for row in rows)
    click.echo(f"{format_count(sum(row.runs for row in rows), 'run')}, {format_usd(known)} known")
