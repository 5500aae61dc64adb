"""What Slurm's states and reasons mean here."""

from __future__ import annotations

from nexa_contracts.states import JobState
from nexa_infra.process import signal_name
from nexa_infra.scheduling.slurm.replies import SlurmJob

_STATES = {
    JobState.PENDING: "PENDING CONFIGURING REQUEUED REQUEUE_HOLD REQUEUE_FED SPECIAL_EXIT RESV_DEL_HOLD",
    JobState.RUNNING: "RUNNING COMPLETING SUSPENDED STOPPED RESIZING SIGNALING STAGE_OUT",
    JobState.SUCCEEDED: "COMPLETED",
    JobState.FAILED: "FAILED",
    JobState.CANCELLED: "CANCELLED",
    JobState.TIMED_OUT: "TIMEOUT DEADLINE",
    JobState.OUT_OF_MEMORY: "OUT_OF_MEMORY",
    JobState.NODE_FAILED: "NODE_FAIL BOOT_FAIL LAUNCH_FAILED RECONFIG_FAIL",
    JobState.PREEMPTED: "PREEMPTED",
}
_BY_WORD = {word: state for state, words in _STATES.items() for word in words.split()}
_NEVER = "it will never start: cancel it and "
_PENDING_HINTS = {
    "PartitionConfig": _NEVER + "ask for no more than the partition has",
    "PartitionNodeLimit": _NEVER + "ask for fewer resources.nodes",
    "PartitionTimeLimit": _NEVER + "ask for less resources.walltime",
    "BadConstraints": _NEVER + "set another slurm.constraint",
    "DependencyNeverSatisfied": _NEVER + "submit it again",
    "InvalidAccount": _NEVER + "set slurm.account",
    "InvalidQOS": _NEVER + "set slurm.qos",
    "JobHeldUser": "`scontrol release` lets it go",
    "JobHeldAdmin": "an administrator holds it",
    "launch failed requeued held": "a node could not start it: `nexa watch` lets it go",
    "BeginTime": "it was requeued and waits a moment",
    "PartitionDown": "the partition takes no jobs now",
    "PartitionInactive": "the partition takes no jobs now",
}
_ENDS = {
    JobState.TIMED_OUT: "reached its time limit",
    JobState.OUT_OF_MEMORY: "used more memory than it asked for",
    JobState.CANCELLED: "was cancelled",
    JobState.PREEMPTED: "made way for another job",
}


def map_state(text: str) -> JobState:
    """Return our word for Slurm's; UNKNOWN for one that is not known here.

    Source: https://slurm.schedmd.com/squeue.html (job state codes; a requeued job is REQUEUED, then PENDING).
    """
    return _BY_WORD.get(text.partition(" ")[0], JobState.UNKNOWN)


def describe(job: SlurmJob) -> tuple[JobState, str | None]:
    """Return a job's state and, unless it runs or succeeded, one line on why."""
    state = map_state(job.state)
    if state is JobState.PENDING:
        return state, _describe_wait(job)
    if state is JobState.UNKNOWN:
        return state, f"slurm says {job.state}"
    if state is JobState.NODE_FAILED:
        return state, f"slurm says {job.state}" + (f" on {job.nodes}" if job.nodes else "")
    if state is JobState.FAILED:
        return state, _describe_failure(job)
    if state is JobState.RUNNING and job.state in ("SUSPENDED", "STOPPED"):
        return state, f"slurm says {job.state}"
    return state, _ENDS.get(state)


def _describe_wait(job: SlurmJob) -> str | None:
    if job.reason is None:
        return None
    hint = _PENDING_HINTS.get(job.reason) or _PENDING_HINTS.get(job.reason.replace("_", " "))
    return f"waits: {job.reason}" + (f"; {hint}" if hint else "")


def _describe_failure(job: SlurmJob) -> str | None:
    # The reason of a batch script that a signal ended is JobLaunchFailure: the signal says more.
    if job.exit_status is None:
        return f"slurm says {job.reason}" if job.reason else None
    if job.exit_status < 0:
        return f"was ended by {signal_name(-job.exit_status)}"
    return f"ended with status {job.exit_status}"
