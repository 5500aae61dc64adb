"""`nexa launch`: one tracked run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nexa_cli.arguments import CONFIG_KEY, RUN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nexa_contracts.config import Override
    from nexa_infra.storage.layout import Project


@click.command()
@click.argument("config", type=click.Path(path_type=Path), metavar="FILE")
@click.option(
    "--set", "sets", multiple=True, type=CONFIG_KEY, metavar="KEY=VALUE", help="Override a config key; can be repeated."
)
@click.option("--backend", metavar="NAME", help="Where it runs: local, ddp (local, with torchrun), slurm.")
@click.option("--nodes", type=click.IntRange(min=1), help="Machines; resources.nodes of the config.")
@click.option("--spares", type=click.IntRange(min=0), help="Machines beside them for bad ones; resources.spares.")
@click.option("--gpus-per-node", type=click.IntRange(min=0), help="GPUs of each; resources.gpus_per_node.")
@click.option("--nproc", type=click.IntRange(min=1), help="Training processes on each; resources.processes_per_node.")
@click.option("--resume", metavar="RUN", type=RUN, help="Go on from the newest verified checkpoint of RUN.")
@click.option(
    "--code",
    "snapshot",
    metavar="DIGEST",
    help="Run a recorded code snapshot, named by the beginning of its digest, not the code as it is now.",
)
@click.option("--dry-run", is_flag=True, help="Print the plan and the cost estimate; write nothing.")
@click.option(
    "-d", "--detach", is_flag=True, help="Return at once; the run goes on. On slurm always so, unless --wait is given."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; implies --detach unless --wait is given.")
@click.option("--wait", is_flag=True, help="Wait for the end: what --json and slurm do not do unasked.")
def command(
    config: Path,
    sets: tuple[str, ...],
    backend: str | None,
    nodes: int | None,
    spares: int | None,
    gpus_per_node: int | None,
    nproc: int | None,
    resume: str | None,
    snapshot: str | None,
    dry_run: bool,
    detach: bool,
    as_json: bool,
    wait: bool,
) -> int:
    """Run one training job, tracked from start to finish.

    The run does not depend on this terminal: closing it, or Ctrl-C, ends the watching and not the run.

    \b
    Example:
      nexa launch nexa_train/configs/baseline.yaml --set training.learning_rate=3e-4 --dry-run
      nexa launch nexa_train/configs/baseline.yaml --resume run_20251030_213000_k3f9
      nexa launch nexa_train/configs/baseline.yaml --backend slurm --nodes 4 --gpus-per-node 8 --spares 1
    """
    from nexa_cli.launching import check_waiting, finish, is_far, print_plan, waits
    from nexa_cli.naming import find_run
    from nexa_infra.operations.context import open_context
    from nexa_infra.operations.launch import launch_training_job
    from nexa_infra.operations.snapshot_names import find_snapshot

    check_waiting(wait=wait, detach=detach)
    shape = {"nodes": nodes, "spares": spares, "gpus_per_node": gpus_per_node, "processes_per_node": nproc}
    context = open_context()
    resumed = None if resume is None else find_run(context.project, resume)
    launched = launch_training_job(
        config,
        overrides=_parse_overrides(sets, shape),
        backend=backend,
        resume=resumed,
        snapshot=None if snapshot is None else find_snapshot(snapshot, context.tiers),
        dry_run=dry_run,
        context=context,
    )
    if dry_run:
        print_plan(launched, as_json=as_json)
        return 0
    _warn_of_nothing_left(context.project, resumed, launched.submission)
    is_watched = waits(is_far=is_far(launched), wait=wait, detach=detach, as_json=as_json)
    return finish(context, launched, as_json=as_json, watch=is_watched)


def _parse_overrides(sets: Sequence[str], shape: Mapping[str, int | None]) -> list[Override]:
    from nexa_contracts.config import parse_override

    options = {"processes_per_node": "--nproc"}
    shaped = [
        parse_override(f"resources.{key}={number}", option=options.get(key, f"--{key.replace('_', '-')}"))
        for key, number in shape.items()
        if number is not None
    ]
    return [*map(parse_override, sets), *shaped]


def _warn_of_nothing_left(project: Project, resumed: str | None, run_id: str) -> None:
    if resumed is None:
        return
    from nexa_cli.output import note
    from nexa_infra.storage.manifests import find_outcome, read_run_manifest

    training, outcome = read_run_manifest(project, run_id).config.training, find_outcome(project, resumed)
    done = None if outcome is None else outcome.steps
    if training is not None and training.max_steps is not None and done is not None and done >= training.max_steps:
        note(f"warning: {resumed} has made all {done} steps of training.max_steps: nothing is left to train; "
             f"for more: --set training.max_steps={2 * done}")  # fmt: skip
