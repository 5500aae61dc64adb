"""Silent deaths under a clock that jumps; whole processes are in test_local_faults."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nexa_contracts.states import JobState
from nexa_infra.scheduling.backend import render_spec
from nexa_infra.scheduling.local_queue import LocalQueue
from nexa_infra.scheduling.logs import scratch_log
from nexa_infra.scheduling.queued_job import Job, NewJob
from nexa_infra.scheduling.settling import Settler
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import read_attempts, read_outcome
from nexa_infra.testing.backend import make_entry, make_request
from nexa_infra.testing.clock import FakeClock

BOOT = "this boot"


def running_job(root: Path, clock: FakeClock, *, max_retries: int = 0) -> Job:
    entry = make_entry(root, "", max_retries=max_retries)
    project = Project(root)
    request = make_request(root, "", max_retries=max_retries)
    spec = project.spec(request.submission)
    spec.parent.mkdir(parents=True)
    spec.write_text(render_spec(request))
    new = NewJob(
        submission=str(spec.parent), spec=str(spec), idx=0, run_id=entry.run_id, run_dir=entry.run_dir,
        outcome=str(project.outcome(entry.run_id)), scratch=entry.scratch, cpus=1, memory_bytes=1, gpus=0,
        share_gpus=False, walltime_s=60.0, grace_s=1.0, max_retries=max_retries,
    )  # fmt: skip
    with LocalQueue(root / "queue.sqlite3") as queue:
        (job_id,) = queue.add_jobs([new])
        queue.update_job(
            job_id,
            state=JobState.RUNNING,
            attempt=1,
            boot_id=BOOT,
            started_s=clock.monotonic_s(),
            started_at=clock.now().isoformat(),
        )
        return queue.find_jobs([job_id])[job_id]


@pytest.mark.parametrize("jump_s", [-86_400.0, 0.0, 86_400.0])
def test_a_wall_clock_that_jumps_changes_no_duration(tmp_path: Path, jump_s: float) -> None:
    clock = FakeClock()
    job = running_job(tmp_path, clock)
    clock.advance(30.0)
    clock.jump(jump_s)
    Settler(boot_id=BOOT, environment={}, clock=clock).settle(job)
    (attempt,) = read_attempts(Project(tmp_path), job.run_id)
    assert attempt.seconds == 30.0
    assert attempt.started_at <= attempt.ended_at
    assert read_outcome(Project(tmp_path), job.run_id).seconds == 30.0


def test_after_a_reboot_the_last_write_to_the_log_bounds_the_duration(tmp_path: Path) -> None:
    clock = FakeClock()
    job = running_job(tmp_path, clock)
    log = scratch_log(Path(job.scratch), job.run_id, 1)
    log.parent.mkdir(parents=True)
    log.write_text("last words\n")
    last_write = (datetime.fromisoformat(str(job.started_at)) + timedelta(seconds=12)).timestamp()
    os.utime(log, (last_write, last_write))
    clock.advance(9_999.0)
    values = Settler(boot_id="the next boot", environment={}, clock=clock).settle(job)
    assert values["state"] is JobState.NODE_FAILED
    (attempt,) = read_attempts(Project(tmp_path), job.run_id)
    assert (attempt.state, attempt.seconds) == (JobState.NODE_FAILED, 12.0)
    assert attempt.failure is not None
    assert attempt.failure.evidence == ("last words",)
    assert Project(tmp_path).log(job.run_id, 1).read_text() == "last words\n"


def test_settling_twice_writes_once(tmp_path: Path) -> None:
    clock = FakeClock()
    job = running_job(tmp_path, clock)
    settler = Settler(boot_id=BOOT, environment={}, clock=clock)
    first = settler.settle(job)
    before = Project(tmp_path).outcome(job.run_id).read_bytes()
    clock.advance(5.0)
    assert settler.settle(job) == first
    assert Project(tmp_path).outcome(job.run_id).read_bytes() == before


def test_a_lost_attempt_is_followed_by_another_where_that_is_allowed(tmp_path: Path) -> None:
    clock = FakeClock()
    job = running_job(tmp_path, clock, max_retries=1)
    values = Settler(boot_id=BOOT, environment={}, clock=clock).settle(job)
    assert (values["state"], values["not_before_s"]) == (JobState.PENDING, clock.monotonic_s() + 1.0)
    assert not Project(tmp_path).outcome(job.run_id).exists()


def test_a_lost_attempt_of_a_cancelled_job_is_cancelled(tmp_path: Path) -> None:
    clock = FakeClock()
    job = replace(running_job(tmp_path, clock, max_retries=9), cancel_requested=True)
    assert Settler(boot_id=BOOT, environment={}, clock=clock).settle(job)["state"] is JobState.CANCELLED
    assert read_outcome(Project(tmp_path), job.run_id).state is JobState.CANCELLED


@pytest.mark.parametrize("kind", ["garbage", "no end", "a folder", "a pipe", "a link to nowhere"])
def test_a_record_that_is_none_of_ours_is_a_crash_and_does_not_hold_up_the_queue(tmp_path: Path, kind: str) -> None:
    clock = FakeClock()
    job = running_job(tmp_path, clock)
    path = Project(tmp_path).attempt(job.run_id, 1)
    path.parent.mkdir(parents=True)
    if kind == "a folder":
        path.mkdir()
    elif kind == "a link to nowhere":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "a pipe":
        os.mkfifo(path)  # reading one waits for a writer that never comes
    else:
        path.write_text({"garbage": "{", "no end": '{"state": "RUNNING"}'}[kind])
    assert Settler(boot_id=BOOT, environment={}, clock=clock).settle(job)["state"] is JobState.FAILED
    failure = read_outcome(Project(tmp_path), job.run_id).failure
    assert failure is not None
    assert failure.kind == "storage"
    assert "1.json" in failure.message


@pytest.mark.parametrize("text", ["{", '{"state": "RUNNING"}'])
def test_an_outcome_that_is_garbage_stays_and_the_queue_lets_the_job_go(tmp_path: Path, text: str) -> None:
    clock = FakeClock()
    job = running_job(tmp_path, clock)
    Path(job.outcome).parent.mkdir(parents=True)
    Path(job.outcome).write_text(text)
    assert Settler(boot_id=BOOT, environment={}, clock=clock).settle(job)["state"] is JobState.FAILED
    assert Path(job.outcome).read_text() == text


def test_a_run_whose_folder_was_removed_is_let_go(tmp_path: Path) -> None:
    clock = FakeClock(datetime(2026, 1, 2, tzinfo=UTC))
    job = running_job(tmp_path, clock)
    Path(job.spec).unlink()
    assert Settler(boot_id=BOOT, environment={}, clock=clock).settle(job)["state"] is JobState.FAILED
