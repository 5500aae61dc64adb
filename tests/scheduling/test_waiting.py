"""A job that waits is told what for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nexa_contracts.states import JobState
from nexa_infra.scheduling.machine import Machine
from nexa_infra.scheduling.queued_job import Job
from nexa_infra.scheduling.waiting import describe_wait

MACHINE = Machine(cpus=2, memory_bytes=4 << 30)
JOB = Job(
    submission="s", spec="", idx=0, run_id="r", run_dir="", outcome="", scratch="", cpus=1, memory_bytes=1 << 30,
    gpus=0, share_gpus=False, walltime_s=1.0, grace_s=1.0, max_retries=0, job_id=1, state=JobState.PENDING, attempt=0,
    cancel_requested=False, reason=None, boot_id=None, not_before_s=None, started_s=None, started_at=None, ended_s=None,
    pid=None, start_ticks=None, token=None, gpu_ids=(),
)  # fmt: skip
OTHER = replace(JOB, submission="other", state=JobState.RUNNING)


@pytest.mark.parametrize(
    ("job", "running", "told"),
    [
        (JOB, [], None),
        (JOB, [OTHER, OTHER], "waits for 1 core; 2 of 2 in use"),
        (replace(JOB, limit_cpus=1), [OTHER], "waits for 1 core; 1 of 1 in use"),
        (replace(JOB, memory_bytes=4 << 30), [OTHER], "waits for 4.0 GiB of memory; 1.0 GiB of 4.0 GiB given out"),
        (replace(JOB, gpus=2), [replace(OTHER, gpu_ids=(0, 1))], "waits for 2 GPUs; 2 in use"),
        (replace(JOB, max_parallel=1), [replace(OTHER, submission="s")],
         "waits for its sweep, which runs at most 1 at a time"),
        (replace(JOB, attempt=1, not_before_s=60.0), [], "waits before attempt 2"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_with_what_is_in_use(job: Job, running: list[Job], told: str | None) -> None:
    assert describe_wait(job, running, MACHINE, now_s=50.0) == told
