"""The states of a job, and which of them are final."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """The state of one run as its backend and its own records tell it.

    PREEMPTED is not final while the job may start again; UNKNOWN never is, because a backend that does not answer
    has said nothing about the job.
    """

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PREEMPTED = "PREEMPTED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    NODE_FAILED = "NODE_FAILED"
    UNKNOWN = "UNKNOWN"

    @property
    def is_final(self) -> bool:
        """Whether a run in this state never changes again."""
        return self in FINAL_STATES


NODE_UNHEALTHY = "node_unhealthy"
"""Kind of the failure of an attempt whose nodes were refused before its processes started; its state is NODE_FAILED."""
REPEATED_CRASH = "repeated_crash"
"""Kind of the failure of an attempt that ended because the same exception had come at the same step before."""
FINAL_STATES = frozenset(
    {
        JobState.SUCCEEDED,
        JobState.FAILED,
        JobState.CANCELLED,
        JobState.TIMED_OUT,
        JobState.OUT_OF_MEMORY,
        JobState.NODE_FAILED,
    }
)
