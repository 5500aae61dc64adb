"""Runs that outlive what a real Slurm does to their jobs: each ends once, rightly, and nothing runs twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from nexa_contracts.job import JobHandle
from nexa_contracts.run import AttemptRecord, RunOutcome
from nexa_contracts.states import JobState
from nexa_infra.scheduling.process_tree import find_process, is_alive
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import read_attempts, read_outcome
from nexa_infra.testing.backend import launch, make_request
from tests.cluster.slurm_cluster import Shape, SlurmCluster
from tests.cluster.sweep_site import make_backend, wait_for

WORK = """
import json, os, signal, sys, time
attempt, run_dir = os.environ['NEXA_ATTEMPT'], os.environ['NEXA_RUN_DIR']
place = run_dir + '/saved'
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
saved = int(open(place).read()) if os.path.exists(place) else 0
open(run_dir + '/place-' + attempt, 'w').write(os.uname().nodename)
for step in range(saved + 1, 601):
    if os.path.exists(run_dir + '/go'):
        sys.exit(0)
    open(place + '.tmp', 'w').write(str(step)); os.replace(place + '.tmp', place)
    open(run_dir + '/metrics.jsonl', 'a').write(json.dumps(dict(attempt=int(attempt), step=step)) + chr(10))
    time.sleep(0.1)
"""
"""Takes a step every tenth of a second, goes on from the last one, and ends when its folder holds a file `go`."""


class Sweep:
    """A sweep on a cluster, seen from its project's folder."""

    def __init__(self, cluster: SlurmCluster, root: Path, *codes: str, **changes: Any) -> None:
        self.cluster = cluster
        self.root = root
        self.handles: Sequence[JobHandle] = launch(
            make_backend(cluster, root), root, make_request(root, *codes, **changes)
        )

    def run_dir(self, row: int) -> Path:
        return Project(self.root).run(self.handles[row].name)

    def wait_for_attempt(self, row: int, number: int) -> str:
        """Return the node of an attempt, once it makes steps."""
        place = self.run_dir(row) / f"place-{number}"
        wait_for(place.exists, what=f"attempt {number} of row {row}")
        return place.read_text()

    def warn(self, row: int) -> None:
        """Send the warning that comes before the time limit."""
        self.cluster.run("scancel", "--batch", "--signal=USR1", self.handles[row].job_id)

    def wait_for_requeue(self, row: int, restarts: int = 1) -> None:
        """Return when the task waits again.

        It is held for some seconds. Let go earlier, it would fail on the node it was on, where what entitled its first
        start is revoked for so long.
        """
        job_id = self.handles[row].job_id

        def waits() -> bool:
            said = self.cluster.run("scontrol", "-o", "show", "job", job_id, check=False)
            return "JobState=PENDING" in said and f"Restarts={restarts}" in said

        wait_for(waits, what=f"requeue of {job_id}")

    def let_end(self) -> None:
        """Let every row succeed, and wait for all outcomes."""
        for row in range(len(self.handles)):
            (self.run_dir(row) / "go").touch()
        for row in range(len(self.handles)):
            self.wait_for_outcome(row)

    def wait_for_outcome(self, row: int) -> RunOutcome:
        wait_for(Project(self.root).outcome(self.handles[row].name).exists, what=f"outcome of row {row}")
        return read_outcome(Project(self.root), self.handles[row].name)

    def attempts(self, row: int) -> list[AttemptRecord]:
        return list(read_attempts(Project(self.root), self.handles[row].name))

    def states(self, row: int) -> list[JobState]:
        return [attempt.state for attempt in self.attempts(row)]

    def steps(self, row: int) -> list[int]:
        lines = (self.run_dir(row) / "metrics.jsonl").read_text().splitlines()
        return [int(line.rpartition(" ")[2].rstrip("}")) for line in lines]


def test_a_warning_requeues_its_task_alone_and_the_run_goes_on(cluster: SlurmCluster, tmp_path: Path) -> None:
    sweep = Sweep(cluster, tmp_path, WORK, WORK, WORK, max_time_outs=1)
    for row in range(3):
        sweep.wait_for_attempt(row, 1)
    sweep.warn(2)  # the last task, whose own job id is the array's and would name them all
    sweep.wait_for_requeue(2)
    sweep.wait_for_attempt(2, 2)
    sweep.let_end()
    assert [sweep.states(row) for row in range(3)] == [
        [JobState.SUCCEEDED],
        [JobState.SUCCEEDED],
        [JobState.TIMED_OUT, JobState.SUCCEEDED],
    ]
    assert sweep.attempts(2)[0].exit_code == 75
    assert sweep.steps(2) == list(range(1, len(sweep.steps(2)) + 1))  # no step twice, none left out


def test_without_a_budget_the_warning_ends_the_run(cluster: SlurmCluster, tmp_path: Path) -> None:
    sweep = Sweep(cluster, tmp_path, WORK, max_time_outs=0)
    sweep.wait_for_attempt(0, 1)
    sweep.warn(0)
    assert sweep.wait_for_outcome(0).state is JobState.TIMED_OUT
    assert sweep.states(0) == [JobState.TIMED_OUT]


def test_a_cancelled_job_says_so_itself_and_stays_cancelled(cluster: SlurmCluster, tmp_path: Path) -> None:
    sweep = Sweep(cluster, tmp_path, WORK, WORK, max_preemptions=9, max_time_outs=9, max_retries=9)
    for row in range(2):
        sweep.wait_for_attempt(row, 1)
    cluster.run("scancel", sweep.handles[0].job_id)
    assert sweep.wait_for_outcome(0).state is JobState.CANCELLED
    sweep.let_end()
    assert sweep.states(1) == [JobState.SUCCEEDED]
    assert sweep.states(0) == [JobState.CANCELLED]


def test_a_cancel_just_after_the_warning_is_not_undone(cluster: SlurmCluster, tmp_path: Path) -> None:
    slow = WORK.replace("sys.exit(75)", "(time.sleep(1), sys.exit(75))")
    sweep = Sweep(cluster, tmp_path, slow, max_time_outs=9)
    sweep.wait_for_attempt(0, 1)
    sweep.warn(0)
    cluster.run("scancel", sweep.handles[0].job_id)
    assert sweep.wait_for_outcome(0).state is JobState.CANCELLED
    assert "Restarts=0" in cluster.run("scontrol", "-o", "show", "job", sweep.handles[0].job_id)


@pytest.mark.parametrize("mode", ["REQUEUE", "CANCEL"])
def test_a_preempted_run_saves_and_goes_on_when_there_is_room(
    make_cluster: Callable[[Shape], SlurmCluster], tmp_path: Path, mode: str
) -> None:
    settings = ("PreemptType=preempt/partition_prio", f"PreemptMode={mode}")
    urgent = "PartitionName=urgent Nodes=n1 PriorityTier=100 MaxTime=10 State=UP"
    cluster = make_cluster(Shape(nodes=1, cpus=2, extra=(*settings, urgent)))
    sweep = Sweep(cluster, tmp_path, WORK, max_retries=0, max_time_outs=0)
    sweep.wait_for_attempt(0, 1)
    cluster.run(
        "sbatch", "--partition=urgent", "--cpus-per-task=2", "--chdir=/", "--output=/dev/null", "--wrap=sleep 1"
    )
    sweep.wait_for_requeue(0)
    sweep.wait_for_attempt(0, 2)
    sweep.let_end()
    assert sweep.states(0) == [JobState.PREEMPTED, JobState.SUCCEEDED]
    assert sweep.attempts(0)[0].exit_code == 75


def test_where_others_may_be_preempted_a_warning_is_a_time_out_and_a_cancel_stands(
    make_cluster: Callable[[Shape], SlurmCluster], tmp_path: Path
) -> None:
    cluster = make_cluster(Shape(nodes=1, cpus=2, extra=("PreemptType=preempt/partition_prio", "PreemptMode=REQUEUE")))
    sweep = Sweep(cluster, tmp_path, WORK, WORK, max_time_outs=0)
    for row in range(2):
        sweep.wait_for_attempt(row, 1)
    sweep.warn(0)
    cluster.run("scancel", sweep.handles[1].job_id)
    assert [sweep.wait_for_outcome(row).state for row in range(2)] == [JobState.TIMED_OUT, JobState.CANCELLED]


def test_a_job_that_was_killed_before_it_could_say_so_starts_again_when_somebody_looks(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    sweep = Sweep(cluster, tmp_path, WORK, max_retries=1)
    sweep.wait_for_attempt(0, 1)
    for pid in list_of_node(sweep.run_dir(0)):
        os.kill(pid, signal.SIGKILL)
    run_id = sweep.handles[0].name
    backend = make_backend(cluster, tmp_path)
    wait_for(lambda: backend.run_states([run_id])[run_id].state is JobState.PENDING, what="its return to the queue")
    sweep.wait_for_attempt(0, 2)
    sweep.let_end()
    assert sweep.states(0) == [JobState.FAILED, JobState.SUCCEEDED]


def test_a_node_that_dies_costs_an_attempt_and_another_node_goes_on(cluster: SlurmCluster, tmp_path: Path) -> None:
    sweep = Sweep(cluster, tmp_path, WORK, max_retries=1)
    node = sweep.wait_for_attempt(0, 1)
    cluster.kill_node(node)
    sweep.wait_for_requeue(0)
    assert sweep.wait_for_attempt(0, 2) != node
    sweep.let_end()
    assert sweep.states(0) == [JobState.NODE_FAILED, JobState.SUCCEEDED]
    lost = sweep.attempts(0)[0]
    assert lost.hostname == node
    assert lost.step is not None
    assert sweep.wait_for_outcome(0).attempts == 2


@pytest.fixture
def sleepers() -> Iterator[list[int]]:
    """Give a list of processes that are woken up at the end, whatever happens."""
    pids: list[int] = []
    yield pids
    wake(pids)


def wake(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            continue


def list_of_node(run_dir: Path) -> list[int]:
    """Return the processes of the run's job: its entry, which has the spec among its words, and its program."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes()
            told = (folder / "environ").read_bytes()
        except OSError:
            continue
        is_entry = b"slurm_entry" in words and str(run_dir.parent).encode() in words
        if is_entry or f"NEXA_RUN_DIR={run_dir}".encode() in told:
            found.append(int(folder.name))
    return found


def list_node(pid: int) -> list[int]:
    """Return all processes of the node that a process is on."""
    node = Path(f"/proc/{pid}/ns/pid").readlink()
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdecimal() and (folder / "ns" / "pid").readlink() == node:
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def test_a_job_on_a_node_that_was_thought_dead_leaves_its_successor_alone(
    cluster: SlurmCluster, tmp_path: Path, sleepers: list[int]
) -> None:
    sweep = Sweep(cluster, tmp_path, WORK, max_retries=1, max_time_outs=9)
    node = sweep.wait_for_attempt(0, 1)
    found = list_of_node(sweep.run_dir(0))
    zombies = [process.mark for pid in found if (process := find_process(pid)) is not None]
    assert len(zombies) == 2
    sleepers += list_node(found[0])  # slurmd too, which would wake them up when it ends them
    for pid in sleepers:
        os.kill(pid, signal.SIGSTOP)
    cluster.run("scontrol", "update", f"nodename={node}", "state=down", "reason=out of reach")
    sweep.wait_for_requeue(0)
    sweep.wait_for_attempt(0, 2)
    wake(sleepers)
    # Ended, also where the node's first process has not collected it yet.
    wait_for(lambda: not any(is_alive(mark) for mark in zombies), what="the end of the zombie")
    assert sweep.states(0) == [JobState.NODE_FAILED]
    sweep.let_end()
    assert sweep.states(0) == [JobState.NODE_FAILED, JobState.SUCCEEDED]
    assert "Restarts=1" in cluster.run("scontrol", "-o", "show", "job", sweep.handles[0].job_id)
    cluster.kill_node(node)


def test_a_controller_that_is_down_delays_the_requeue_and_loses_nothing(cluster: SlurmCluster, tmp_path: Path) -> None:
    sweep = Sweep(cluster, tmp_path, WORK, max_time_outs=1)
    sweep.wait_for_attempt(0, 1)
    entry = [
        pid for pid in list_of_node(sweep.run_dir(0)) if b"slurm_entry" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    cluster.stop_controller()
    os.kill(entry[0], signal.SIGUSR1)
    wait_for(lambda: len(sweep.attempts(0)) == 1, what="the record of the first attempt")
    cluster.start_controller()
    sweep.wait_for_requeue(0)
    sweep.wait_for_attempt(0, 2)
    sweep.let_end()
    assert sweep.states(0) == [JobState.TIMED_OUT, JobState.SUCCEEDED]
