"""Slurm's states in our words, with a reason that a person can act on."""

from __future__ import annotations

from typing import Any

import pytest

from nexa_contracts.states import JobState
from nexa_infra.scheduling.slurm.replies import SlurmJob
from nexa_infra.scheduling.slurm.states import describe, map_state
from nexa_infra.scheduling.slurm.words import find_hint, is_absent, is_all_ended, is_silence


def job(state: str, **changes: Any) -> SlurmJob:
    fields: dict[str, Any] = {
        "job_id": "5", "array_job_id": "5", "task_ids": (), "name": "run", "state": state, "reason": None,
        "exit_status": None, "restarts": 0, "nodes": "",
    }  # fmt: skip
    return SlurmJob(**(fields | changes))


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("PENDING", JobState.PENDING),
        ("REQUEUED", JobState.PENDING),
        ("CONFIGURING", JobState.PENDING),
        ("RUNNING", JobState.RUNNING),
        ("COMPLETING", JobState.RUNNING),
        ("SUSPENDED", JobState.RUNNING),
        ("COMPLETED", JobState.SUCCEEDED),
        ("FAILED", JobState.FAILED),
        ("CANCELLED", JobState.CANCELLED),
        ("CANCELLED by 1000", JobState.CANCELLED),
        ("TIMEOUT", JobState.TIMED_OUT),
        ("DEADLINE", JobState.TIMED_OUT),
        ("OUT_OF_MEMORY", JobState.OUT_OF_MEMORY),
        ("NODE_FAIL", JobState.NODE_FAILED),
        ("BOOT_FAIL", JobState.NODE_FAILED),
        ("PREEMPTED", JobState.PREEMPTED),
        ("REVOKED", JobState.UNKNOWN),
        ("SOMETHING_NEW", JobState.UNKNOWN),
        ("", JobState.UNKNOWN),
    ],
)
def test_every_word_has_one_meaning(word: str, state: JobState) -> None:
    assert map_state(word) is state


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (job("RUNNING"), None),
        (job("COMPLETED", exit_status=0), None),
        (job("PENDING"), None),
        (job("PENDING", reason="Priority"), "waits: Priority"),
        (job("PENDING", reason="PartitionTimeLimit"), "waits: PartitionTimeLimit; it will never start: cancel it and"),
        (job("FAILED", exit_status=7, reason="NonZeroExitCode"), "ended with status 7"),
        (job("FAILED", exit_status=-9, reason="JobLaunchFailure"), "was ended by SIGKILL"),
        (job("FAILED", reason="JobLaunchFailure"), "slurm says JobLaunchFailure"),
        (job("NODE_FAIL", nodes="n3"), "slurm says NODE_FAIL on n3"),
        (job("TIMEOUT"), "reached its time limit"),
        (job("SUSPENDED"), "slurm says SUSPENDED"),
        (job("SOMETHING_NEW"), "slurm says SOMETHING_NEW"),
    ],
)
def test_a_reason_says_why(found: SlurmJob, said: str | None) -> None:
    state, reason = describe(found)
    assert state is map_state(found.state)
    assert reason == said or (said is not None and reason is not None and reason.startswith(said))


def test_silence_is_told_from_a_refusal() -> None:
    assert is_silence("slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    assert is_silence("Batch job submission failed: Socket timed out on send/recv operation")
    assert is_silence("Batch job submission failed: Zero Bytes were transmitted or received")
    assert not is_silence("Batch job submission failed: Invalid partition name specified")
    assert is_absent("sbatch: fatal: Could not establish a configuration source")
    assert is_all_ended("scancel: error: Kill job error on job id 1: Invalid job id specified")
    assert not is_all_ended("")


def test_a_refusal_that_is_not_known_has_no_made_up_hint() -> None:
    assert find_hint("Batch job submission failed: Something new") is None
    assert "max_submitted" in str(find_hint("Job violates accounting/QOS policy (job submit limit, user's size)"))
