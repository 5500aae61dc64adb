"""`nexa sweep`: many runs from one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nexa_cli.arguments import SWEEP, SWEEP_KEY

if TYPE_CHECKING:
    from nexa_infra.operations.context import Context
    from nexa_infra.operations.launch import Resumed
    from nexa_infra.operations.submitting import Launched

_MOST_NAMED = 3
_Word = tuple[str, str | None]
"""An override, and the option that stands for its key; None: `--set`."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE", required=False)
@click.option(
    "--set",
    "sets",
    multiple=True,
    type=SWEEP_KEY,
    metavar="KEY=VALUE",
    help="Override a key of the sweep or of its base config.",
)
@click.option("--search", metavar="NAME", help="grid, random or tpe, instead of what the file says.")
@click.option("--trials", metavar="N", help="Number of samples of a random or tpe search.")
@click.option("--pruner", metavar="NAME", help="none, asha, median or hyperband: ends runs early that fall behind.")
@click.option("--backend", metavar="NAME", help="Where the runs go; default: the site's, else local.")
@click.option(
    "--resume", metavar="SWEEP", type=SWEEP, help="Run only what is missing or failed of SWEEP; last: the newest."
)
@click.option(
    "--submit/--no-submit",
    default=None,
    help="Hand the runs over, or only write everything.  [default: hand over, but on slurm only write]",
)
@click.option("--dry-run", is_flag=True, help="Print the plan and the cost estimate; write nothing.")
@click.option(
    "-d", "--detach", is_flag=True, help="Return at once; the runs go on. On slurm always so, unless --wait is given."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; implies --detach unless --wait is given.")
@click.option("--wait", is_flag=True, help="Wait for the end: what --json and slurm do not do unasked.")
def command(
    file: Path | None,
    sets: tuple[str, ...],
    search: str | None,
    trials: str | None,
    pruner: str | None,
    backend: str | None,
    resume: str | None,
    submit: bool | None,
    dry_run: bool,
    detach: bool,
    as_json: bool,
    wait: bool,
) -> int:
    """Run many jobs from one file: a grid, a random search, or one that learns from its runs (tpe).

    \b
    Example:
      nexa sweep nexa_train/sweeps/random_search.yaml --dry-run
      nexa sweep nexa_train/sweeps/random_search.yaml --trials 12
      nexa sweep nexa_train/sweeps/random_search.yaml --search tpe --trials 40 --pruner asha
      nexa sweep nexa_train/sweeps/random_search.yaml --backend slurm --submit
      nexa sweep --resume sweep_20251030_213000_k3f9
    """
    from nexa_cli.launching import check_waiting, finish, is_far, print_plan, waits
    from nexa_cli.output import note
    from nexa_infra.operations.context import open_context

    check_waiting(wait=wait, detach=detach)
    if (file is None) == (resume is None):
        raise click.UsageError("give exactly one of FILE and --resume SWEEP")
    context = open_context()
    chosen = {"search": search, "trials": trials, "pruner": pruner}
    words: list[_Word] = [(text, None) for text in sets]
    words += [(f"{key}={text}", f"--{key}") for key, text in chosen.items() if text is not None]
    how = _How(backend, dry_run=dry_run, submit=submit)
    if file is not None:
        launched = _launch(context, file, words, how)
    else:
        resumed = _resume(context, resume or "", words, how)
        if resumed.launched is None:
            why = "no other member can be submitted" if resumed.unknown else "every member has succeeded, runs or waits"
            note(f"{resume}: {why}; nothing to submit")
            return 0
        launched = resumed.launched
    if dry_run:
        print_plan(launched, as_json=as_json, submits=resume is not None or _submits(context, how))
        return 0
    watch = waits(is_far=is_far(launched), wait=wait, detach=detach, as_json=as_json)
    return finish(context, launched, as_json=as_json, watch=watch)


@dataclass(frozen=True, slots=True)
class _How:
    backend: str | None
    dry_run: bool
    submit: bool | None


def _launch(context: Context, file: Path, words: list[_Word], how: _How) -> Launched:
    from nexa_contracts.config import parse_override
    from nexa_infra.operations.launch import launch_sweep

    return launch_sweep(
        file,
        overrides=[parse_override(text, option=option) for text, option in words],
        backend=how.backend,
        dry_run=how.dry_run,
        submit=_submits(context, how),
        context=context,
    )


def _submits(context: Context, how: _How) -> bool:
    return (how.backend or context.site.backend) != "slurm" if how.submit is None else how.submit


def _resume(context: Context, name: str, words: list[_Word], how: _How) -> Resumed:
    from nexa_cli.naming import find_sweep
    from nexa_cli.output import note, printable
    from nexa_contracts.units import format_count
    from nexa_infra.operations.launch import take_up_sweep

    if words or how.submit is False:
        raise click.UsageError(
            "--set, --search, --trials, --pruner and --no-submit are for a new sweep; "
            "--resume submits one that was written"
        )
    sweep_id = find_sweep(context.project, name)
    resumed = take_up_sweep(sweep_id, backend=how.backend, dry_run=how.dry_run, context=context)
    if resumed.handed_over:
        note(f"{sweep_id}: {format_count(resumed.handed_over, 'run')} handed over that had been left")
    if resumed.unknown:
        named = [f"{run_id}: {why}" for run_id, why in resumed.unknown.items()]
        if len(named) > _MOST_NAMED:
            named[_MOST_NAMED:] = [f"and {len(named) - _MOST_NAMED} more"]
        count = format_count(len(resumed.unknown), "run")
        note(printable(f"{sweep_id}: {count} left alone, whose state is UNKNOWN: {'; '.join(named)}"))
    return resumed
