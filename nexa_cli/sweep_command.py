"""`nexa sweep`: many runs from one file."""

from __future__ import annotations

from pathlib import Path

import click

from nexa_cli.arguments import SWEEP


@click.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE", required=False)
@click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Override a key of the sweep or of its base config."
)
@click.option("--backend", metavar="NAME", help="Where the runs go; default: the site's, else local.")
@click.option("--resume", metavar="SWEEP", type=SWEEP, help="Run only what is missing or failed of SWEEP.")
@click.option("--submit/--no-submit", default=True, help="Hand the runs over, or only write everything.")
@click.option("--dry-run", is_flag=True, help="Print the plan and the cost estimate; write nothing.")
@click.option("-d", "--detach", is_flag=True, help="Return at once; the runs go on.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; implies --detach unless --wait is given.")
@click.option("--wait", is_flag=True, help="With --json: wait for the end, then print.")
def command(
    file: Path | None,
    sets: tuple[str, ...],
    backend: str | None,
    resume: str | None,
    submit: bool,
    dry_run: bool,
    detach: bool,
    as_json: bool,
    wait: bool,
) -> int:
    """Run many jobs from one file: a grid or a random search.

    \b
    Example:
      nexa sweep nexa_train/sweeps/random_search.yaml --dry-run
      nexa sweep nexa_train/sweeps/random_search.yaml --set trials=12
      nexa sweep --resume sweep_20251030_213000_k3f9
    """
    from nexa_cli.launching import finish, print_plan
    from nexa_cli.naming import find_sweep
    from nexa_cli.output import note
    from nexa_contracts.config import parse_override
    from nexa_infra.operations.context import open_context
    from nexa_infra.operations.launch import launch_sweep, resume_sweep

    context = open_context()
    if (file is None) == (resume is None):
        raise click.UsageError("give exactly one of FILE and --resume SWEEP")
    launched = None
    if resume is not None:
        if sets or not submit:
            raise click.UsageError("--set and --no-submit are for a new sweep; --resume submits one that was written")
        launched = resume_sweep(find_sweep(context.project, resume), backend=backend, dry_run=dry_run, context=context)
    elif file is not None:
        launched = launch_sweep(
            file,
            overrides=[parse_override(text) for text in sets],
            backend=backend,
            dry_run=dry_run,
            submit=submit,
            context=context,
        )
    if launched is None:
        note(f"{resume}: every member has succeeded, runs or waits; nothing to submit")
        return 0
    if dry_run:
        print_plan(launched, as_json=as_json)
        return 0
    return finish(context, launched, as_json=as_json, watch=wait if as_json else not detach)
