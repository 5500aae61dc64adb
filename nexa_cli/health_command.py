"""`nexa health`: may nodes join, and which are kept out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nexa_contracts.exit_codes import CommandExit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nexa_contracts.health import HealthReport
    from nexa_infra.health.ledger import Quarantine


@click.group(invoke_without_command=True)
@click.option("--nodes", metavar="LIST", help="Check these nodes of the cluster, as n1,n[3-5]; default: this machine.")
@click.option("--gpus", type=click.IntRange(0), help="GPUs each must have; 0 leaves the GPU checks out.")
@click.option("--cpus", type=click.IntRange(1), help="Cores each must have.")
@click.option("--memory", metavar="SIZE", help="Main memory each is said to have, as 64GiB.")
@click.option("--speed", is_flag=True, help="Measure the GPUs' speed too, and hold it to the stored baseline.")
@click.option("--store-baseline", is_flag=True, help="Store the measured speeds as the fleet's baseline.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    nodes: str | None,
    gpus: int | None,
    cpus: int | None,
    memory: str | None,
    speed: bool,
    store_baseline: bool,
    as_json: bool,
) -> int:
    """Check whether nodes are fit to join; exit 1 when one is not.

    Every check has a threshold, a result and its evidence. What cannot be found out is `unknown`, which is not healthy.

    \b
    Example:
      nexa health
      nexa health --nodes n1,n2 --gpus 8 --json
      nexa health quarantine list
    """
    if ctx.invoked_subcommand is not None:
        return CommandExit.DONE
    from nexa_cli.output import note
    from nexa_infra.operations.context import open_context
    from nexa_infra.operations.health import examine_nodes, keep_baseline
    from nexa_infra.operations.node_health import Demand, open_ledger

    context = open_context()
    size = None if memory is None else _parse_size(memory)
    demand = Demand(gpus=gpus, cpus=cpus, memory_bytes=size, measure_speed=speed or store_baseline)
    reports = examine_nodes(context, nodes, demand)
    kept_out = {standing.node: standing for standing in open_ledger(context).standing(context.clock.now())}
    if as_json:
        _print_reports_json(reports, kept_out)
    elif len(reports) == 1:
        _print_report(reports[0])
    else:
        _print_overview(reports)
    for standing in (kept_out[report.node] for report in reports if report.node in kept_out):
        note(f"{standing.node}: under quarantine until {standing.expires_at:%Y-%m-%d %H:%M} UTC: {standing.reason}")
    if store_baseline:
        _, path = keep_baseline(context, reports)
        note(f"baseline stored: {path}")
    return CommandExit.DONE if all(report.is_healthy for report in reports) else CommandExit.FAILED


@command.group("quarantine")
def quarantine_group() -> None:
    """Show and change which nodes of the cluster get no jobs.

    Two failures of different jobs on one node put it here, for as long as `health.quarantine_for` of the site file.

    \b
    Example:
      nexa health quarantine list
      nexa health quarantine add n7 --reason "fan is loud" --for 2d
      nexa health quarantine clear n7
    """


@quarantine_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(as_json: bool) -> None:
    """List the nodes that are kept out now.

    \b
    Example:
      nexa health quarantine list --json
    """
    from dataclasses import asdict

    from nexa_cli.output import note, print_json, print_table
    from nexa_infra.operations.context import open_context
    from nexa_infra.operations.node_health import open_ledger

    context = open_context()
    ledger = open_ledger(context)
    standing = ledger.standing(context.clock.now())
    for line in ledger.read()[1]:
        note(f"warning: {line}")
    if as_json:
        print_json([asdict(entry) for entry in standing])
    elif not standing:
        click.echo("no node is under quarantine")
    else:
        times = [(f"{entry.since:%Y-%m-%d %H:%M}", f"{entry.expires_at:%Y-%m-%d %H:%M}") for entry in standing]
        rows = [[entry.node, *time, entry.reason] for entry, time in zip(standing, times, strict=True)]
        print_table(["node", "since", "until", "reason"], rows)


@quarantine_group.command("add")
@click.argument("node")
@click.option("--reason", required=True, help="Why, for whoever reads the list.")
@click.option("--for", "lasts", metavar="DURATION", help="How long, as 2d; default: health.quarantine_for.")
def add_command(node: str, reason: str, lasts: str | None) -> None:
    """Keep a node out.

    \b
    Example:
      nexa health quarantine add n7 --reason "fan is loud" --for 2d
    """
    from datetime import timedelta

    from nexa_contracts.errors import ConfigError
    from nexa_contracts.units import parse_duration_s
    from nexa_infra.operations.context import open_context
    from nexa_infra.operations.node_health import open_ledger

    try:
        length = None if lasts is None else timedelta(seconds=parse_duration_s(lasts))
    except ValueError as error:
        raise ConfigError(f"--for: {error}") from error
    context = open_context()
    context.require_tiers()
    entry = open_ledger(context).add(node, reason=reason, now=context.clock.now(), lasts=length)
    click.echo(f"{node}: under quarantine until {entry.expires_at:%Y-%m-%d %H:%M} UTC")


@quarantine_group.command("clear")
@click.argument("node")
@click.option("--reason", default="", help="Why, for whoever reads the ledger.")
def clear_command(node: str, reason: str) -> None:
    """Let a node work again, and forget its failures.

    \b
    Example:
      nexa health quarantine clear n7 --reason "fan replaced"
    """
    from nexa_infra.operations.context import open_context
    from nexa_infra.operations.node_health import open_ledger

    context = open_context()
    context.require_tiers()
    was = open_ledger(context).clear(node, reason=reason, now=context.clock.now())
    click.echo(
        f"{node}: {'no longer under quarantine' if was else 'was not under quarantine; its failures are forgotten'}"
    )


def _parse_size(text: str) -> int:
    from nexa_contracts.errors import ConfigError
    from nexa_contracts.units import parse_size_bytes

    try:
        return parse_size_bytes(text)
    except ValueError as error:
        raise ConfigError(f"--memory: {error}") from error


def _print_reports_json(reports: Sequence[HealthReport], kept_out: dict[str, Quarantine]) -> None:
    from nexa_cli.output import print_json

    nodes = [
        {
            **report.model_dump(mode="json"),
            "result": report.result,
            "healthy": report.is_healthy,
            "quarantined_until": kept_out[report.node].expires_at.isoformat() if report.node in kept_out else None,
        }
        for report in reports
    ]
    print_json({"healthy": all(report.is_healthy for report in reports), "nodes": nodes})


def _print_report(report: HealthReport) -> None:
    from nexa_cli.output import print_table

    rows = [
        [check.result, check.name, check.measured or "-", check.threshold, check.evidence] for check in report.checks
    ]
    print_table(["", "check", "measured", "healthy is", "evidence"], rows)
    click.echo(_tell(report))


def _print_overview(reports: Sequence[HealthReport]) -> None:
    from nexa_cli.output import print_table

    rows = [
        [
            report.node,
            "yes" if report.is_healthy else "no",
            report.result,
            str(len(report.checks)),
            _tell_problems(report),
        ]
        for report in reports
    ]
    print_table(["node", "may join", "worst", "checks", "what keeps it out"], rows, right=(3,))
    able = sum(report.is_healthy for report in reports)
    click.echo(f"{able} of {len(reports)} nodes may join")


def _tell(report: HealthReport) -> str:
    problems = report.problems
    if report.is_healthy:
        return f"{report.node}: may join"
    return f"{report.node}: may not join: {', '.join(f'{check.name} {check.result}' for check in problems)}"


def _tell_problems(report: HealthReport) -> str:
    return "; ".join(f"{check.name} {check.result}: {check.evidence}" for check in report.problems) or "-"
