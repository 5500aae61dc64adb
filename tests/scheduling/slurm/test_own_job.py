"""What a job makes of what Slurm does to it; the texts are of a real 22.05.8."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_contracts.errors import ConfigError
from nexa_infra.scheduling.ending import Leave
from nexa_infra.scheduling.slurm.own_job import OwnJob
from nexa_infra.scheduling.slurm.view import explain_signal, parse_view

RUNNING = "JobState=RUNNING Restarts=0 RunTime=00:01:00 TimeLimit=00:10:00"
NEAR_ITS_END = "JobState=RUNNING Restarts=0 RunTime=00:09:00 TimeLimit=00:10:00"
PREEMPTED_SOON = f"{RUNNING} PreemptEligibleTime=2026-11-22T13:40:46 PreemptTime=2026-11-22T13:40:47"
CANCELLED = "JobState=COMPLETING Restarts=0 RunTime=00:00:01 TimeLimit=00:10:00"
PREEMPTED = f"{CANCELLED} PreemptTime=2026-11-22T13:40:47"
WHERE_OTHERS_ARE = " PreemptEligibleTime=2026-11-22T13:40:46 PreemptTime=None"
REQUEUED = "JobState=COMPLETING Restarts=1 RunTime=00:00:00 TimeLimit=00:10:00"
AT_ITS_LIMIT = "JobState=COMPLETING Restarts=0 RunTime=1-00:00:29 TimeLimit=1-00:00:00"
UNLIMITED = "JobState=RUNNING Restarts=0 RunTime=00:01:00 TimeLimit=UNLIMITED"


def fields(text: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in text.split())


@pytest.mark.parametrize(
    ("heard", "text", "why"),
    [
        (Leave.TIMED_OUT, RUNNING, Leave.TIMED_OUT),
        (Leave.TIMED_OUT, UNLIMITED, Leave.TIMED_OUT),
        (Leave.TIMED_OUT, CANCELLED, Leave.CANCELLED),
        (Leave.ASKED, RUNNING, Leave.PREEMPTED),
        (Leave.ASKED, UNLIMITED, Leave.PREEMPTED),
        (Leave.ASKED, NEAR_ITS_END, Leave.TIMED_OUT),
        (Leave.ASKED, PREEMPTED_SOON, Leave.PREEMPTED),
        (Leave.ASKED, CANCELLED, Leave.CANCELLED),
        (Leave.ASKED, PREEMPTED, Leave.PREEMPTED),
        (Leave.ASKED, REQUEUED, Leave.PREEMPTED),
        (Leave.ASKED, AT_ITS_LIMIT, Leave.TIMED_OUT),
        (Leave.CANCELLED, RUNNING, Leave.CANCELLED),
        (Leave.TIMED_OUT, RUNNING.replace("RUNNING", "SIGNALING"), Leave.TIMED_OUT),
        (Leave.TIMED_OUT, RUNNING + WHERE_OTHERS_ARE, Leave.TIMED_OUT),
        (Leave.ASKED, CANCELLED + WHERE_OTHERS_ARE, Leave.CANCELLED),
        (Leave.ASKED, AT_ITS_LIMIT + WHERE_OTHERS_ARE, Leave.TIMED_OUT),
        (Leave.ASKED, CANCELLED + " Reason=NodeDown", Leave.NODE_FAILED),
        (Leave.ASKED, CANCELLED.replace("COMPLETING", "NODE_FAIL"), Leave.NODE_FAILED),
        (Leave.ASKED, CANCELLED.replace("COMPLETING", "BOOT_FAIL"), Leave.NODE_FAILED),
        (Leave.CANCELLED, CANCELLED + " Reason=NodeDown", Leave.CANCELLED),
        (Leave.ASKED, RUNNING + " Reason=NodeDown", Leave.PREEMPTED),
    ],
)
def test_why_a_job_has_to_leave(heard: Leave, text: str, why: Leave) -> None:
    assert explain_signal(heard, parse_view(fields(text)), restarts=0) is why


def test_a_controller_that_is_silent_has_cancelled_nothing() -> None:
    assert explain_signal(Leave.ASKED, None, restarts=0) is Leave.PREEMPTED
    assert explain_signal(Leave.TIMED_OUT, None, restarts=0) is Leave.TIMED_OUT


def test_a_job_that_has_been_restarted_before_is_not_restarting() -> None:
    assert explain_signal(Leave.ASKED, parse_view(fields(REQUEUED)), restarts=1) is Leave.CANCELLED


@given(st.integers(0, 40), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_a_time_is_read_as_slurm_writes_it(days: int, hours: int, minutes: int, seconds: int) -> None:
    text = f"{days}-{hours:02d}:{minutes:02d}:{seconds:02d}" if days else f"{hours:02d}:{minutes:02d}:{seconds:02d}"
    assert parse_view({"RunTime": text}).run_s == ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def test_in_an_array_a_job_is_its_task_and_not_the_id_that_names_all() -> None:
    last_task = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "4", "SLURM_RESTART_COUNT": "2"}
    job = OwnJob.from_environment({**last_task, "SLURM_JOB_NAME": "sweep.c0", "SLURM_CLUSTER_NAME": "c"})
    assert (job.job_id, job.task, job.restarts) == ("7_4", 4, 2)
    alone = OwnJob.from_environment({"SLURM_JOB_ID": "7"})
    assert (alone.job_id, alone.task, alone.restarts) == ("7", 0, 0)


@pytest.mark.parametrize("job_id", ["", "7; rm", "7_", "-1"])
def test_outside_of_a_job_there_is_none(job_id: str) -> None:
    with pytest.raises(ConfigError, match="SLURM_JOB_ID"):
        OwnJob.from_environment({"SLURM_JOB_ID": job_id})


@pytest.mark.parametrize(
    ("text", "is_ours"),
    [
        (f"JobId=15 BatchHost=n1 {RUNNING}", True),
        (f"JobId=16 BatchHost=n1 {RUNNING}", False),
        (f"JobId=15 BatchHost=n2 {RUNNING}", False),
        (f"JobId=15 {REQUEUED}", True),
        ("JobId=15 JobState=PENDING Restarts=0 RunTime=00:00:00 TimeLimit=00:10:00", False),
        (RUNNING, True),
    ],
)
def test_a_start_that_the_controller_has_forgotten_is_not_the_one_it_means(text: str, is_ours: bool) -> None:
    assert parse_view(fields(text)).is_of("15", "n1") is is_ours
