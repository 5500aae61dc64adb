"""`nexa show`: what a run or a sweep is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from nexa_cli.arguments import RUN_OR_SWEEP

if TYPE_CHECKING:
    from nexa_contracts.run import RunManifest
    from nexa_infra.operations.context import Context
    from nexa_infra.storage.layout import Project


@click.command()
@click.argument("run", default="last", metavar="[RUN|SWEEP]", type=RUN_OR_SWEEP)
@click.option("--reproduce", is_flag=True, help="Print the commands that would run it again.")
@click.option("--json", "as_json", is_flag=True, help="Print manifest, outcome, cost and goodput as JSON.")
def command(run: str, reproduce: bool, as_json: bool) -> None:
    """Show what RUN is: config, code, data, environment, result, cost; or what SWEEP is: its file as it was launched.

    Of a run also its goodput: the share of its wall time that brought it on, and where the rest went.

    `last` is the newest run, which may be a sweep's member.

    \b
    Example:
      nexa show last
      nexa show run_20251030_213000_k3f9 --reproduce
    """
    from nexa_cli.naming import find_run
    from nexa_cli.output import note
    from nexa_infra.operations.context import open_context
    from nexa_infra.operations.reconcile import try_to_settle
    from nexa_infra.storage.manifests import read_run_manifest

    context = open_context()
    if run.startswith("sweep_"):
        if reproduce:
            raise click.UsageError("--reproduce is for a run; a sweep's runs: nexa status SWEEP")
        from nexa_cli.sweep_view import show_sweep

        show_sweep(context.project, run, as_json=as_json)
        return
    run_id = find_run(context.project, run)
    manifest = read_run_manifest(context.project, run_id)
    if reproduce:
        _print_reproduction(context, manifest)
        return
    problem = try_to_settle(context, [run_id])
    if as_json:
        _print_json(context.project, manifest)
    else:
        from nexa_cli.goodput_view import find_goodput
        from nexa_cli.manifest_view import print_manifest
        from nexa_infra.operations.record import read_record

        record = read_record(context.project, run_id)
        print_manifest(record, goodput=find_goodput(context.project, run_id))
        for line in record.problems:
            note(f"warning: {line}")
        problem = None if problem in record.problems else problem
    if problem is not None:
        note(f"warning: costs are not settled: {problem}")


def _print_reproduction(context: Context, manifest: RunManifest) -> None:
    from nexa_infra.operations.environment import read_environment
    from nexa_infra.operations.reproduce import render_reproduction

    here = read_environment(dict(os.environ), runner=context.runner)
    for line in render_reproduction(manifest, context.project, context.tiers, here=here):
        click.echo(line)


def _print_json(project: Project, manifest: RunManifest) -> None:
    from nexa_cli.goodput_view import find_goodput, goodput_data
    from nexa_cli.output import print_json
    from nexa_infra.storage.manifests import find_cost, find_outcome

    # A program must not take a damaged outcome for a run that goes on.
    outcome, cost = find_outcome(project, manifest.run_id), find_cost(project, manifest.run_id)
    parts = {"manifest": manifest, "outcome": outcome, "cost": cost}
    told = {name: None if part is None else part.model_dump(mode="json") for name, part in parts.items()}
    print_json(told | {"goodput": goodput_data(find_goodput(project, manifest.run_id))})
