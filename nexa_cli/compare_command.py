"""`nexa compare`: what differs between runs."""

from __future__ import annotations

import click

from nexa_cli.arguments import RUN


@click.command()
@click.argument("runs", nargs=-1, required=True, type=RUN)
@click.option("--all", "everything", is_flag=True, help="Packages and variables too, not only their number.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(runs: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Show what differs between RUNS in config, code, data, environment and result.

    \b
    Example:
      nexa compare run_20251030_213000_k3f9-001 run_20251030_213000_k3f9-004
    """
    from nexa_cli.comparing import print_differences
    from nexa_cli.naming import find_run
    from nexa_cli.output import print_json
    from nexa_infra.operations.compare import compare_runs
    from nexa_infra.operations.context import open_project
    from nexa_infra.storage.manifests import find_outcome, read_run_manifest

    if len(runs) < 2:
        raise click.UsageError(f"found one run, {runs[0]}; allowed: two runs or more")
    project = open_project()
    run_ids = [find_run(project, run) for run in runs]
    comparison = compare_runs(
        [read_run_manifest(project, run_id) for run_id in run_ids],
        [find_outcome(project, run_id) for run_id in run_ids],
    )
    if as_json:
        differences = [{"section": item.section, "key": item.key, "values": list(item.data)}
                       for item in comparison.differences]  # fmt: skip
        print_json({"runs": run_ids, "differences": differences})
        return
    noisy = ("packages.", "variables.")
    shown = [item for item in comparison.differences if everything or not item.key.startswith(noisy)]
    if not comparison.differences:
        click.echo("nothing differs")
        return
    print_differences(run_ids, shown)
    hidden = len(comparison.differences) - len(shown)
    if hidden:
        click.echo(f"{hidden} packages or variables differ too: nexa compare --all")
