"""Several runs in one task: each can be cancelled alone, before, between and while its attempts run."""

from __future__ import annotations

import signal
from pathlib import Path

from nexa_contracts.states import JobState
from nexa_infra.storage.layout import Project
from tests.scheduling.local_machine import wait_until
from tests.scheduling.slurm_job import end, warn
from tests.scheduling.test_slurm_entry import FIRST, LEAVES, attempts, job_of, outcome, run_id

WISH = "open(os.environ['NEXA_RUN_DIR'] + '/cancel.json', 'w').close()"


def wish(root: Path, row: int = 0) -> None:
    path = Project(root).run_dir(run_id(row)).cancel
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}\n")


def test_a_row_that_runs_is_ended_alone_and_the_next_one_starts(tmp_path: Path) -> None:
    job = job_of(tmp_path, LEAVES.format(attempts=["1"]), "print('next')")
    child = job.start(*FIRST)
    wait_until((tmp_path / "ready-1").exists, what="its program")
    wish(tmp_path)
    assert end(child) == 75
    assert [(each.state, each.exit_code) for each in attempts(tmp_path)] == [(JobState.CANCELLED, 75)]
    assert [outcome(tmp_path, row).state for row in range(2)] == [JobState.CANCELLED, JobState.SUCCEEDED]
    assert job.requeues == []


def test_a_row_is_not_tried_again_once_it_is_not_wanted(tmp_path: Path) -> None:
    job = job_of(tmp_path, f"import os; {WISH}; raise SystemExit(3)", "print('next')", max_retries=5)
    assert job.run(*FIRST) == 3
    assert [each.state for each in attempts(tmp_path)] == [JobState.FAILED]
    ended = outcome(tmp_path)
    assert (ended.state, ended.attempts) == (JobState.CANCELLED, 1)
    assert ended.failure is not None
    assert ended.failure.kind == "cancelled"
    assert outcome(tmp_path, 1).state is JobState.SUCCEEDED


def test_a_row_that_nobody_wants_any_more_does_not_start_with_the_jobs_next_start(tmp_path: Path) -> None:
    job = job_of(tmp_path, LEAVES.format(attempts=["1"]), "print('next')", max_time_outs=5)
    child = job.start(*FIRST)
    warn(child, signal.SIGUSR1, when=tmp_path / "ready-1")
    assert end(child) == 0
    wish(tmp_path)
    job.restart(*FIRST)
    assert [each.state for each in attempts(tmp_path)] == [JobState.TIMED_OUT]
    assert [outcome(tmp_path, row).state for row in range(2)] == [JobState.CANCELLED, JobState.SUCCEEDED]


def test_a_job_with_one_row_asks_the_shared_tier_nothing(tmp_path: Path) -> None:
    job = job_of(tmp_path, "print('alone')")
    wish(tmp_path)  # left by someone: such a job is ended through Slurm
    assert job.run("--offset", "9", "--rows", "1") == 0
    assert outcome(tmp_path).state is JobState.SUCCEEDED


def test_a_row_whose_files_are_damaged_does_not_hold_up_the_next(tmp_path: Path) -> None:
    job = job_of(tmp_path, "print('one')", "print('two')")
    owner = Project(tmp_path).run_dir(run_id()).owner
    owner.parent.mkdir(parents=True)
    owner.write_text("{damaged")
    assert job.run(*FIRST) != 0
    assert "owner.json: damaged" in (tmp_path / "slurm.out").read_text()
    assert outcome(tmp_path, 1).state is JobState.SUCCEEDED
    assert not Project(tmp_path).outcome(run_id()).exists()
