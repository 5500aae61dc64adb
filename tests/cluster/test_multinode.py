"""Two-node trainings on a real Slurm: processes and attempts are killed, and the weights are as if nothing had been."""

from __future__ import annotations

import json
import signal
import sys

import pytest

from nexa_contracts.exit_codes import WorkExit
from nexa_contracts.resources import Resources
from nexa_infra.launchers.torchrun import TorchrunLauncher
from nexa_infra.scheduling.torchrun import count_restarts, find_repeated_crash
from nexa_infra.storage.seal import verify_seal
from nexa_train.job import Job
from tests.cluster.slurm_cluster import SlurmCluster
from tests.cluster.two_nodes import DEADLINE_S, OWN_SCRATCH, TRAINING, TwoNodes, make_site, read_lines, wait_for
from tests.train.training_site import Site

LONG = (
    "training.max_steps=240",
    "training.log_every=10",
    "training.batch_size=2",
    "checkpoints.every_steps=40",
    "model.scratch.dropout=0.1",  # the random generators' states become part of the result
)

CRASHES = """
import os, time
from torch.distributed.elastic.multiprocessing.errors import record
@record
def main():
    if os.environ["RANK"] == "1":
        raise ValueError("bad row")
    time.sleep(600)
main()
"""

TWICE = """#!/bin/sh
for NEXA_ATTEMPT in 1 2; do
    export NEXA_ATTEMPT
    "$@"
done
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_site(tmp_path_factory.mktemp("nodes"))


@pytest.fixture
def nodes(cluster: SlurmCluster, site: Site) -> TwoNodes:
    return TwoNodes(cluster, site)


@pytest.fixture(scope="module")
def undisturbed(site: Site) -> bytes:
    """The weights of the same training in two processes of one machine, to which nothing happened."""
    job = site.job(*LONG)
    command = TorchrunLauncher().wrap(TRAINING, Resources(processes_per_node=2), run_id=job.run_id)
    child = site.start(job, *command)
    _, said = child.communicate(timeout=DEADLINE_S)
    assert child.returncode == 0, said
    return read_weights(site, job)


def test_a_process_that_dies_is_started_again_and_the_weights_are_the_same(
    nodes: TwoNodes, site: Site, undisturbed: bytes
) -> None:
    job = site.job(*LONG)
    job_id = nodes.submit(job, restarts=1)
    nodes.await_step(job, 90)
    (second,) = nodes.ranks(job, 1)
    second.kill()
    assert nodes.await_end(job_id) == "COMPLETED", nodes.log(job).read_text()
    assert read_weights(site, job) == undisturbed
    assert count_restarts(job.run_dir, 1) == 1
    result = json.loads(job.run_dir.result(1).read_text())
    assert result["resumed_from"] in {f"{job.run_id} step {step}" for step in range(40, 201, 40)}
    assert {line["step"] for line in read_lines(job.run_dir.metrics)} >= {1, *range(10, 241, 10)}


def test_nodes_with_a_scratch_of_their_own_leave_together_and_go_on_from_what_the_first_one_has(
    nodes: TwoNodes, site: Site, undisturbed: bytes
) -> None:
    job = site.job(*LONG)
    command = (*OWN_SCRATCH, *TRAINING)
    job_id = nodes.submit(job, command)
    nodes.await_step(job, 50)
    nodes.tell_batch(job_id, signal.SIGTERM)
    assert nodes.await_end(job_id) == "COMPLETED", nodes.log(job).read_text()
    left = json.loads(job.run_dir.result(1).read_text())
    assert left["exit_code"] == WorkExit.SAVED_AND_LEFT
    first, second = (site.tiers.scratch / name / "checkpoints_temp" / job.run_id for name in ("n1", "n2"))
    names = {file.path for file in verify_seal(first / f"checkpoint-{left['steps']}").files}
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= names
    assert list(second.glob("checkpoint-*")) == []
    again = nodes.submit(job, command, attempt=2)
    assert nodes.await_end(again) == "COMPLETED", nodes.log(job, 2).read_text()
    assert json.loads(job.run_dir.result(2).read_text())["resumed_from"] == f"{job.run_id} step {left['steps']}"
    assert read_weights(site, job) == undisturbed


def test_a_process_that_dies_for_good_ends_all_nodes(nodes: TwoNodes, site: Site) -> None:
    job = site.job()
    job_id = nodes.submit(job, ("sleep", "600"), processes=2)
    ranks = nodes.await_ranks(job, 4)
    ranks[-1].kill()
    assert nodes.await_end(job_id) == "FAILED"
    wait_for("the end of every process", lambda: not nodes.carriers(job) or None)


def test_a_process_that_dies_of_the_same_exception_twice_ends_all_nodes(nodes: TwoNodes, site: Site) -> None:
    job = site.job()
    job_id = nodes.submit(job, (sys.executable, "-c", CRASHES), restarts=5)
    assert nodes.await_end(job_id) == "FAILED"
    said = nodes.log(job).read_text()
    assert count_restarts(job.run_dir, 1) == 1, said
    found = find_repeated_crash(job.run_dir, 1, said.splitlines())
    assert found is not None
    assert (
        found.message
        == "ValueError: bad row; the same as earlier in this attempt before its first step, so it is not tried again"
    )
    wait_for("the end of every process", lambda: not nodes.carriers(job) or None)


def test_nodes_that_lost_their_srun_are_ended_before_the_next_attempt(nodes: TwoNodes, site: Site) -> None:
    job = site.job()
    job_id = nodes.submit(job, ("sleep", "600"), script=TWICE)
    first = nodes.await_ranks(job, 2)
    nodes.kill_step_entry(job)
    second = wait_for("another attempt", lambda: [each for each in nodes.ranks(job) if each not in first][1:])
    assert second
    assert not set(first) & set(nodes.carriers(job))
    nodes.cluster.run("scancel", job_id)
    assert nodes.await_end(job_id) == "CANCELLED"


def read_weights(site: Site, job: Job) -> bytes:
    folder = site.tiers.checkpoint(job.run_id)
    verify_seal(folder)
    return (folder / "model.safetensors").read_bytes()
