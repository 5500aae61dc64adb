"""A job that nothing can be done with is let go by name, and the others are supervised as ever."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest

from nexa_contracts.states import JobState
from nexa_infra.scheduling.local_queue import LocalQueue
from nexa_infra.scheduling.queued_job import Job, NewJob
from nexa_infra.scheduling.state_dir import StateDir
from nexa_infra.scheduling.supervisor import Supervisor
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import read_outcome
from nexa_infra.testing.backend import launch, make_entry, make_request
from nexa_infra.testing.clock import FakeClock
from tests.scheduling.local_machine import LocalMachine
from tests.scheduling.test_settling import running_job

BROKEN = "no\0path"


def new_job(root: Path, **changes: str) -> NewJob:
    entry, project = make_entry(root, ""), Project(root)
    job = NewJob(
        submission=str(project.runs / "s"), spec=str(project.spec("s")), idx=0, run_id=entry.run_id,
        run_dir=entry.run_dir, outcome=str(project.outcome(entry.run_id)), scratch=entry.scratch, cpus=1,
        memory_bytes=1, gpus=0, share_gpus=False, walltime_s=60.0, grace_s=1.0, max_retries=3,
    )  # fmt: skip
    return replace(job, **changes)  # type: ignore[arg-type]


def look(root: Path, *, times: int = 1) -> list[Job]:
    """Return the jobs of the queue at `root` after a supervisor had so many looks at them."""
    state = StateDir(root)
    with LocalQueue(state.queue) as queue:
        supervisor = Supervisor(queue, state=state, environment=dict(os.environ), clock=FakeClock())
        for _ in range(times):
            supervisor.look()
        return list(queue.find_jobs(range(10)).values())


@pytest.mark.parametrize("field", ["run_dir", "scratch"])
def test_a_started_job_with_a_broken_path_is_let_go_and_the_next_one_is_settled(
    tmp_path: Path, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    with LocalQueue(tmp_path / "queue.sqlite3") as queue:
        (broken,) = queue.add_jobs([new_job(tmp_path / "other", **{field: BROKEN})])
        queue.update_job(broken, state=JobState.RUNNING, attempt=1, boot_id="an earlier boot", token="f" * 32)
    good = running_job(tmp_path, FakeClock())
    with caplog.at_level(logging.WARNING):
        jobs = look(tmp_path, times=3)
    assert [job.state for job in jobs] == [JobState.FAILED, JobState.NODE_FAILED]
    assert "null" in str(jobs[0].reason)
    said = [record.message for record in caplog.records if "is let go" in record.message]
    assert len(said) == 1
    assert jobs[0].run_id in said[0]
    assert read_outcome(Project(tmp_path), good.run_id).state is JobState.NODE_FAILED


@pytest.mark.parametrize("field", ["spec", "run_dir", "outcome", "scratch"])
def test_a_cancelled_job_with_a_broken_path_is_let_go_and_the_others_are_cancelled(tmp_path: Path, field: str) -> None:
    with LocalQueue(tmp_path / "queue.sqlite3") as queue:
        good = new_job(tmp_path, run_dir=str(tmp_path / "good"))
        ids = queue.add_jobs([new_job(tmp_path, **{field: BROKEN}), good])
        queue.request_cancel(ids)
    states = [job.state for job in look(tmp_path)]
    assert states[0].is_final
    assert states[1] is JobState.CANCELLED


@pytest.mark.parametrize("field", ["spec", "run_dir", "scratch"])
def test_a_waiting_job_with_a_broken_path_is_let_go_and_the_next_one_runs(
    machine: LocalMachine, tmp_path: Path, field: str
) -> None:
    broken = new_job(tmp_path / "other", **{field: BROKEN})
    with LocalQueue(machine.state.queue) as queue:
        queue.add_jobs([broken])
    (good,) = launch(machine.backend, tmp_path, make_request(tmp_path, "print()"))
    assert machine.wait_for_end([good]) == [JobState.SUCCEEDED]
    with LocalQueue(machine.state.queue) as queue:
        (let_go,) = [job for job in queue.find_jobs(range(10)).values() if job.run_dir == broken.run_dir]
    assert let_go.state is JobState.FAILED
    assert "null" in str(let_go.reason)
    assert let_go.attempt <= 1


def test_a_started_job_whose_outcome_cannot_be_looked_for_waits_and_the_next_one_is_settled(tmp_path: Path) -> None:
    # A name too long is the one reason that also holds for root; the others pass, so it is asked again.
    with LocalQueue(tmp_path / "queue.sqlite3") as queue:
        (broken,) = queue.add_jobs([new_job(tmp_path / "other", outcome=str(tmp_path / ("x" * 300)))])
        queue.update_job(broken, state=JobState.RUNNING, attempt=1, boot_id="an earlier boot", token="f" * 32)
    running_job(tmp_path, FakeClock())
    jobs = look(tmp_path, times=2)
    assert [job.state for job in jobs] == [JobState.RUNNING, JobState.NODE_FAILED]
    assert "it ended and cannot be recorded yet" in str(jobs[0].reason)
