"""`nexa show`: what a run is."""

from __future__ import annotations

import os

import click

from nexa_cli.arguments import RUN


@click.command()
@click.argument("run", default="last", type=RUN)
@click.option("--reproduce", is_flag=True, help="Print the commands that would run it again.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest, the outcome and the cost as JSON.")
def command(run: str, reproduce: bool, as_json: bool) -> None:
    """Show what RUN is: config, code, data, environment, result, cost.

    \b
    Example:
      nexa show last
      nexa show run_20251030_213000_k3f9 --reproduce
    """
    from nexa_cli.naming import find_run
    from nexa_cli.output import note, print_json
    from nexa_infra.operations.context import open_context
    from nexa_infra.operations.reconcile import try_to_settle
    from nexa_infra.storage.manifests import find_cost, find_outcome, read_run_manifest

    context = open_context()
    run_id = find_run(context.project, run)
    manifest = read_run_manifest(context.project, run_id)
    if reproduce:
        from nexa_infra.operations.environment import read_environment
        from nexa_infra.operations.reproduce import render_reproduction

        here = read_environment(dict(os.environ), runner=context.runner)
        for line in render_reproduction(manifest, context.project, context.tiers, here=here):
            click.echo(line)
        return
    problem = try_to_settle(context, [run_id])
    if as_json:
        # A program must not take a damaged outcome for a run that goes on.
        outcome, cost = find_outcome(context.project, run_id), find_cost(context.project, run_id)
        parts = {"manifest": manifest, "outcome": outcome, "cost": cost}
        print_json({name: None if part is None else part.model_dump(mode="json") for name, part in parts.items()})
    else:
        from nexa_cli.manifest_view import print_manifest
        from nexa_infra.operations.record import read_record

        record = read_record(context.project, run_id)
        print_manifest(record)
        for line in record.problems:
            note(f"warning: {line}")
        problem = None if problem in record.problems else problem
    if problem is not None:
        note(f"warning: costs are not settled: {problem}")
