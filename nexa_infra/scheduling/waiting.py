"""What a job of the local queue waits for, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nexa_contracts.states import JobState
from nexa_contracts.units import format_count, format_size
from nexa_infra.process import SystemRunner
from nexa_infra.scheduling.machine import Machine, read_machine
from nexa_infra.scheduling.queued_job import Job


def explain_waits(jobs: Mapping[str, Job], running: Sequence[Job], *, now_s: float) -> dict[str, Job]:
    """Return the jobs, those that wait with what they wait for as their reason, where that can be told."""
    machine: Machine | None = None
    explained = dict(jobs)
    for run_id, job in jobs.items():
        if job.state in (JobState.PENDING, JobState.PREEMPTED) and job.reason is None:
            machine = machine or read_machine(SystemRunner(), with_gpus=False)  # the driver takes seconds
            explained[run_id] = replace(job, reason=describe_wait(job, running, machine, now_s=now_s))
    return explained


def describe_wait(job: Job, running: Sequence[Job], machine: Machine, *, now_s: float) -> str | None:
    """Return what a job waits for beside those that run; None when there is room for it and it may start any moment."""
    if job.not_before_s is not None and job.not_before_s > now_s:
        return f"waits before attempt {job.attempt + 1}"
    beside = sum(each.submission == job.submission for each in running)
    if job.max_parallel is not None and beside >= job.max_parallel:
        return f"waits for its sweep, which runs at most {job.max_parallel} at a time"
    cpus, used_cpus = _least(machine.cpus, job.limit_cpus), sum(each.cpus for each in running)
    if used_cpus + job.cpus > cpus:
        return f"waits for {format_count(job.cpus, 'core')}; {used_cpus} of {cpus} in use"
    memory_bytes = _least(machine.memory_bytes, job.limit_memory_bytes)
    used_bytes = sum(each.memory_bytes for each in running)
    if used_bytes + job.memory_bytes > memory_bytes:
        used = f"{format_size(used_bytes)} of {format_size(memory_bytes)}"
        return f"waits for {format_size(job.memory_bytes)} of memory; {used} given out"
    used_gpus = {gpu for each in running for gpu in each.gpu_ids}
    if job.gpus and used_gpus:
        return f"waits for {format_count(job.gpus, 'GPU')}; {len(used_gpus)} in use"
    return None


def _least(have: int, limit: int | None) -> int:
    return have if limit is None else min(have, limit)
