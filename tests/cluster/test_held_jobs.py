"""Jobs that a node could not start: Slurm drains the node and holds them, and nobody has to let them go by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nexa_contracts.states import JobState
from nexa_infra.operations.context import Context
from nexa_infra.operations.launch import launch_slurm_sweep
from nexa_infra.operations.watching import Keeper
from nexa_infra.storage.manifests import read_outcome
from tests.cluster.slurm_cluster import Shape, SlurmCluster
from tests.cluster.sweep_site import make_project, wait_for, write_sweep

HELD = "launch failed requeued held"
OUTCOME = "import os; print('ran', os.environ['NEXA_ATTEMPT'])"


def make_broken(make_cluster: Callable[[Shape], SlurmCluster], root: Path) -> tuple[SlurmCluster, Context]:
    """Return a cluster whose nodes start nothing as long as there is a file `broken`, and a project on it."""
    prolog = root / "prolog"
    prolog.write_text(f"#!/bin/sh\n[ ! -e {root}/broken ]\n")
    prolog.chmod(0o755)
    (root / "broken").touch()
    cluster = make_cluster(Shape(nodes=2, cpus=2, gpus=0, extra=(f"Prolog={prolog}",)))
    return cluster, make_project(cluster, root / "project")


def mend(cluster: SlurmCluster, root: Path) -> None:
    """Do what the operators of a cluster do; they do not know whose jobs are held."""
    (root / "broken").unlink(missing_ok=True)
    for name in cluster.node_names:
        cluster.run("scontrol", "update", f"nodename={name}", "state=resume", check=False)


def count_held(cluster: SlurmCluster) -> int:
    return cluster.run("squeue", "-h", "-r", "-o", "%r").splitlines().count(HELD)


def test_jobs_that_no_node_could_start_go_on_when_one_can(
    make_cluster: Callable[[Shape], SlurmCluster], tmp_path: Path
) -> None:
    cluster, context = make_broken(make_cluster, tmp_path)
    launched = launch_slurm_sweep(write_sweep(tmp_path, OUTCOME, {"x": [1, 2, 3]}), submit=True, context=context)
    wait_for(lambda: count_held(cluster) > 0, what="a job on hold")
    mend(cluster, tmp_path)
    keeper = Keeper(context)
    wait_for(lambda: keeper.look().is_over, what="the end of all runs")
    outcomes = [read_outcome(context.project, run_id) for run_id in launched.run_ids]
    assert [(each.state, each.attempts) for each in outcomes] == [(JobState.SUCCEEDED, 1)] * 3
    wait_for(lambda: cluster.run("squeue", "-h").strip() == "", what="an empty queue")


def test_what_no_node_can_ever_start_ends_on_record_after_some_tries(
    make_cluster: Callable[[Shape], SlurmCluster], tmp_path: Path
) -> None:
    cluster, context = make_broken(make_cluster, tmp_path)
    launched = launch_slurm_sweep(write_sweep(tmp_path, OUTCOME, {"x": [1]}), submit=True, context=context)
    keeper = Keeper(context)
    notes = next(context.project.runs.glob("sweep_*")) / "slurm" / "released"

    def is_let_go_often() -> bool:
        for name in cluster.node_names:
            cluster.run("scontrol", "update", f"nodename={name}", "state=resume", check=False)
        keeper.look()
        return notes.exists() and len(notes.read_text().splitlines()) == 3

    wait_for(is_let_go_often, what="the last time")
    wait_for(lambda: count_held(cluster) == 1, what="the job on hold")
    look = keeper.look()
    assert (look.held, look.counts, look.is_over) == (1, {}, False)
    assert len(notes.read_text().splitlines()) == 3
    outcome = read_outcome(context.project, launched.run_ids[0])
    assert (outcome.state, outcome.attempts) == (JobState.NODE_FAILED, 0)
    assert outcome.failure is not None
    assert "it was let go 3 times and is held again" in outcome.failure.message
    assert keeper.look().is_over
    wait_for(lambda: cluster.run("squeue", "-h").strip() == "", what="an empty queue")
