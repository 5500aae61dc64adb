"""A job of several nodes that ends with one of them is told from one that is preempted or cancelled."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from nexa_contracts.states import JobState
from nexa_infra.scheduling.slurm.nodes import NodeClient
from nexa_infra.storage.layout import Project
from nexa_infra.testing.clock import FakeClock
from nexa_infra.testing.process import FakeRunner
from tests.scheduling.local_machine import wait_until
from tests.scheduling.slurm_job import SlurmJob, end, warn
from tests.scheduling.test_slurm_entry import FIRST, attempts, is_settled, job_of, outcome, run_id

ENDING = "JobState=COMPLETING {more} RunTime=00:01:00 TimeLimit=02:00:00"
REQUEUED = ENDING.format(more="Restarts=1 Reason=None")
NOT_REQUEUED = ENDING.format(more="Restarts=0 Reason=NodeDown")
CANCELLED = ENDING.format(more="Restarts=0 Reason=None")
CODE = "import time; open('ready-1', 'w').close(); time.sleep(600)"


def lose(root: Path, says: str, sinfo: str, **budget: int) -> SlurmJob:
    """Let Slurm end a job of two nodes and say this of it and of its nodes; return the job when its entry has left."""
    job = job_of(root, CODE, **budget)
    program = job.folder / "sinfo"
    program.write_text(f"#!/bin/sh\n{sinfo}\n")
    program.chmod(0o755)
    (job.folder / "refusal").write_text("scontrol: error: Requested operation is presently disabled\n")
    child = job.start(*FIRST)
    wait_until((root / "ready-1").exists, what="its program")
    job.say(says)
    programs = psutil.Process(child.pid).children(recursive=True)
    warn(child, signal.SIGTERM, when=root / "ready-1")
    wait_until(Project(root).run_dir(run_id()).leaving(1).exists, what="its entry has heard of it")
    for each in programs:
        each.terminate()  # that of Slurm comes to every process of a job
    end(child)
    return job


@pytest.fixture(autouse=True)
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say that the job has two nodes, as Slurm does."""
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-2]")


@pytest.mark.parametrize(
    ("sinfo", "state"),
    [
        ("echo n1 mixed; echo n2 'down*'", JobState.NODE_FAILED),
        ("echo n1 mixed; echo n2 idle", JobState.PREEMPTED),
        ("echo no answer >&2; exit 1", JobState.PREEMPTED),
    ],
)
def test_a_job_that_starts_again_is_asked_for_its_nodes(tmp_path: Path, sinfo: str, state: JobState) -> None:
    job = lose(tmp_path, REQUEUED, sinfo, max_retries=1)
    (attempt,) = attempts(tmp_path)
    assert attempt.state is state
    assert job.requeues == []  # Slurm does so by itself
    assert not is_settled(tmp_path)
    assert attempt.failure is not None
    if state is JobState.NODE_FAILED:
        assert attempt.failure.message == "another node of its job went down, and it was ended by SIGTERM"
        assert attempt.failure.kind == "killed"  # and not its own node's doing


@pytest.mark.parametrize("sinfo", ["echo n1 mixed; echo n2 down", "echo no answer >&2; exit 1"])
def test_a_job_that_does_not_start_again_has_not_been_cancelled(tmp_path: Path, sinfo: str) -> None:
    lose(tmp_path, NOT_REQUEUED, sinfo, max_retries=1)
    assert [attempt.state for attempt in attempts(tmp_path)] == [JobState.NODE_FAILED]
    assert outcome(tmp_path).state is JobState.NODE_FAILED


def test_a_job_that_was_cancelled_has_been(tmp_path: Path) -> None:
    lose(tmp_path, CANCELLED, "echo n1 mixed; echo n2 mixed", max_retries=1)
    assert outcome(tmp_path).state is JobState.CANCELLED


@pytest.mark.parametrize(
    ("said", "down"),
    [
        ("n1 idle\nn2 mixed*\n", ()),
        ("n1 down\nn1 down\nn2 DOWN*\nn3 drained\nn4 draining*\n", ("n1", "n2")),
        ("n1 down~\nn2 downtown\n\nnonsense\n", ("n1",)),
    ],
)
def test_nodes_that_are_down_are_told_from_others(said: str, down: tuple[str, ...]) -> None:
    client = NodeClient(FakeRunner().answer(["sinfo"], said), environment={}, clock=FakeClock())
    assert client.list_down("n[1-4]") == down
