"""A job as the local queue holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nexa_contracts.states import JobState
from nexa_infra.scheduling.process_tree import ProcessMark


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job as it is submitted."""

    submission: str
    """Folder of the run or sweep it belongs to, whichever spec it came with: what `max_parallel` is counted by."""
    spec: str
    idx: int
    run_id: str
    run_dir: str
    outcome: str
    """Path of its RunOutcome."""
    scratch: str
    cpus: int
    memory_bytes: int
    gpus: int
    share_gpus: bool
    walltime_s: float
    grace_s: float
    max_retries: int
    max_preemptions: int = 100
    max_time_outs: int = 0
    max_parallel: int | None = None
    limit_cpus: int | None = None
    limit_memory_bytes: int | None = None
    limit_gpus: int | None = None
    secrets: tuple[str, ...] = ()
    submitted_at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(NewJob):
    """A job as the queue knows it."""

    job_id: int
    state: JobState
    attempt: int
    """Number of the newest attempt that was started; 0 before the first."""
    cancel_requested: bool
    reason: str | None
    """Why it waits, when that is not for lack of room."""
    boot_id: str | None
    """Of the boot in which the monotonic times and the process below mean anything."""
    not_before_s: float | None
    started_s: float | None
    started_at: str | None
    ended_s: float | None
    """When its end was seen, while that cannot be recorded; what it takes from then on is not the run's time."""
    pid: int | None
    start_ticks: int | None
    token: str | None
    gpu_ids: tuple[int, ...]

    @property
    def max_moves(self) -> int:
        """There is no other machine."""
        return 0

    @property
    def mark(self) -> ProcessMark | None:
        """The process of its job entry; None while that is not known."""
        if self.pid is None or self.start_ticks is None:
            return None
        return ProcessMark(pid=self.pid, start_ticks=self.start_ticks)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Job:
        """Return the job in a row of the queue's table."""
        return cls(
            **{
                **row,
                "share_gpus": bool(row["share_gpus"]),
                "secrets": tuple(json.loads(row["secrets"])),
                "state": JobState(row["state"]),
                "cancel_requested": bool(row["cancel_requested"]),
                "gpu_ids": tuple(json.loads(row["gpu_ids"] or "[]")),
            }
        )


def encode_field(value: Any) -> str | int | float | None:
    """Return the value of a job's field as SQLite keeps it."""
    if isinstance(value, JobState):
        return value.value
    return json.dumps(value) if isinstance(value, tuple) else value
