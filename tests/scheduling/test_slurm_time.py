"""The end of an allocation: nothing is begun that cannot be finished, and a warning that nobody heard is not needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexa_contracts.states import JobState
from nexa_infra.scheduling.slurm.own_job import LimitWarning
from nexa_infra.testing.backend import make_request
from tests.scheduling.slurm_job import end, make_job
from tests.scheduling.test_slurm_entry import FIRST, LEAVES, attempts, is_settled, job_of, outcome


def test_an_attempt_that_used_up_its_allocation_is_followed_by_one_in_another(tmp_path: Path) -> None:
    crashed = job_of(tmp_path, "raise SystemExit(3)", max_retries=1, max_time_outs=9)
    child = crashed.start(*FIRST)
    crashed.say("JobState=RUNNING Restarts={restarts} RunTime=01:59:58 TimeLimit=02:00:00")
    assert end(child) == 0  # without the time for another attempt
    job = job_of(tmp_path, LEAVES.format(attempts=["2", "3"]), max_retries=1, max_time_outs=9)
    job.restarts = 1
    child = job.start(*FIRST)
    job.say("JobState=RUNNING Restarts={restarts} RunTime=01:59:48 TimeLimit=02:00:00")
    assert end(child) == 0
    assert [each.state for each in attempts(tmp_path)] == [JobState.FAILED, JobState.TIMED_OUT]
    assert len(job.requeues) == 2
    assert not is_settled(tmp_path)


def test_a_job_that_heard_no_warning_leaves_in_time_all_the_same(tmp_path: Path) -> None:
    job = make_job(
        tmp_path, make_request(tmp_path, *[""] * 3, LEAVES.format(attempts=["1"]), max_time_outs=1, walltime_s=8.0)
    )
    child = job.start("--offset", "0")
    job.say("JobState=RUNNING Restarts={restarts} RunTime=00:00:06 TimeLimit=00:00:08")
    assert end(child) == 0
    (attempt,) = attempts(tmp_path, -9)
    assert (attempt.state, attempt.exit_code) == (JobState.TIMED_OUT, 75)
    assert job.requeues == ["requeue 12_3"]
    assert job.restart("--offset", "0") == 0
    assert outcome(tmp_path, -9).state is JobState.SUCCEEDED


@pytest.mark.parametrize(
    ("warning", "walltime_s", "reserve_s"), [("USR1@120", 3600, 80), ("USR1@30", 3600, 10), ("USR1@120", 60, 15)]
)
def test_it_minds_its_end_itself_when_the_warning_must_have_come(
    warning: str, walltime_s: float, reserve_s: float
) -> None:
    assert LimitWarning.parse(warning).reserve_s(walltime_s) == reserve_s
