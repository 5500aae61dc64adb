"""What a cluster's accounting knows still decides how a run ended, when the controller has forgotten its job."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from nexa_contracts.states import JobState
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import read_outcome
from tests.cluster.slurm_cluster import Shape, SlurmCluster
from tests.cluster.sweep_site import make_backend, wait_for
from tests.cluster.test_survival import WORK, Sweep, list_of_node


def test_jobs_that_the_controller_has_forgotten_ended_as_accounting_says(
    make_cluster: Callable[[Shape], SlurmCluster], tmp_path: Path
) -> None:
    cluster = make_cluster(Shape(nodes=1, cpus=1, gpus=0, accounting=True))
    sweep = Sweep(cluster, tmp_path, WORK, WORK)
    sweep.wait_for_attempt(0, 1)
    cluster.run("scancel", sweep.handles[1].job_id)  # by hand, while it waits for the only core
    for pid in list_of_node(sweep.run_dir(0)):
        os.kill(pid, signal.SIGKILL)
    ids = [handle.job_id for handle in sweep.handles]
    wait_for(lambda: ended(cluster, ids) == ["CANCELLED", "FAILED"], what="both ends in accounting")
    forget_all(cluster)
    states = make_backend(cluster, tmp_path).run_states([handle.name for handle in sweep.handles])
    assert [states[handle.name].state for handle in sweep.handles] == [JobState.FAILED, JobState.CANCELLED]
    told = read_outcome(Project(tmp_path), sweep.handles[0].name).failure
    assert told is not None
    assert f"Slurm says that job {ids[0]} ended as FAILED" in told.message


def ended(cluster: SlurmCluster, ids: list[str]) -> list[str]:
    """Return how these jobs ended, as accounting has it; of those that go on nothing."""
    said = cluster.run("sacct", "--allocations", "--noheader", "--format=State%20", f"--jobs={','.join(ids)}")
    words = (line.split()[0] for line in said.splitlines())
    return sorted(word for word in words if word not in ("PENDING", "RUNNING"))


def forget_all(cluster: SlurmCluster) -> None:
    """Let the controller lose all that it knew of jobs, as one whose disk was lost."""
    cluster.stop_controller()
    shutil.rmtree(cluster.folder / "spool" / "controller")
    (cluster.folder / "spool" / "controller").mkdir()
    cluster.start_controller()
