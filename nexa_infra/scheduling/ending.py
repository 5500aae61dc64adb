"""How the end of a program is read: its status, why it was told to leave, and what its log and result say."""

from __future__ import annotations

import signal
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from nexa_contracts.exit_codes import NEVER_RETRIED, WorkExit
from nexa_contracts.states import NODE_UNHEALTHY, JobState
from nexa_contracts.units import format_duration
from nexa_infra.process import signal_name
from nexa_infra.scheduling.evidence import (
    find_error_line,
    find_out_of_memory,
    hide_secrets,
    names_disk_trouble,
    pick_evidence,
)
from nexa_infra.scheduling.records import Failure

_SHELL_SIGNALS = 128
"""A shell reports a program that signal N ended as status 128 + N."""
_SPEAKING = NEVER_RETRIED | {WorkExit.DONE, WorkExit.SAVED_AND_LEFT}
"""Statuses that say what they mean, whatever the program was told meanwhile."""
_CRASHES = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP})


class Leave(StrEnum):
    """Why a program was told to leave."""

    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    ASKED = "asked"
    """By a signal from outside, of which nobody knows more: perhaps the machine shuts down."""
    PREEMPTED = "preempted"
    """The scheduler takes the place back, and lets the job start again."""
    NODE_FAILED = "node_failed"
    """Another node of its job went down, and the job ends with it."""
    PRUNED = "pruned"
    """It falls behind the other trials of its sweep."""


_TAKEN = {
    Leave.PREEMPTED: (JobState.PREEMPTED, "preempted", "its place was taken"),
    # Not `lost`: this node, whose name the attempt has, is not the one that went down.
    Leave.NODE_FAILED: (JobState.NODE_FAILED, "killed", "another node of its job went down"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """All that is known of how a program ended."""

    returncode: int
    """Negative for the number of a signal."""
    leave: Leave | None = None
    walltime_s: float
    lines: Sequence[str] = ()
    """The last of its log."""
    oom_kills: int | None = None
    """How many out-of-memory kills the kernel counted meanwhile; None where it does not tell."""
    said: Failure | None = None
    """Of its own result file."""
    unreadable: str | None = None
    """Why its result file could not be read."""
    disk: str | None = None
    """What was wrong with a disk that it writes to, when it ended."""
    stall: Failure | None = None
    """That it was ended because it made no step any more."""
    has_finished: bool = False
    """Its own result says that its work was done."""
    secrets: Collection[str] = ()

    @property
    def is_finished(self) -> bool:
        """Whether its work is done, whatever it was told meanwhile."""
        return self.returncode == WorkExit.DONE and self.has_finished

    @property
    def signal_number(self) -> int | None:
        """The signal that ended it, in a shell's words too; None when it left by itself."""
        if self.returncode < 0:
            return -self.returncode
        number = self.returncode - _SHELL_SIGNALS
        return number if number in {int(each) for each in signal.Signals} else None


def judge_ending(ending: Ending) -> tuple[JobState, Failure | None]:
    """Return the state of an attempt, and why it ended badly if it did."""
    if ending.leave is Leave.CANCELLED:
        return JobState.CANCELLED, Failure("cancelled", "cancelled on request")
    if ending.is_finished or ending.leave is Leave.PRUNED:
        return JobState.SUCCEEDED, None  # it was done before it had to leave, or nobody wants more of it
    if ending.stall is not None:
        return JobState.FAILED, ending.stall
    if ending.leave is Leave.TIMED_OUT:
        return JobState.TIMED_OUT, _explain(ending, "timed_out", _describe_time_out(ending))
    if ending.leave in _TAKEN and ending.returncode not in _SPEAKING:
        # A program that does not know the signal, or was killed while it saved, has not crashed.
        state, kind, what = _TAKEN[ending.leave]
        return state, _explain(ending, kind, f"{what}, and it {_describe_leaving(ending)}")
    return _judge_status(ending)


def _judge_status(ending: Ending) -> tuple[JobState, Failure | None]:
    if ending.said is not None and ending.said.kind == NODE_UNHEALTHY:
        return JobState.NODE_FAILED, ending.said
    if ending.returncode == WorkExit.DONE:
        if ending.unreadable is not None:
            return JobState.FAILED, Failure("bad_request", ending.unreadable)
        return JobState.SUCCEEDED, None
    if ending.returncode == WorkExit.SAVED_AND_LEFT:
        return JobState.PREEMPTED, None
    out_of_memory = _find_memory_evidence(ending)
    if out_of_memory is not None:
        return JobState.OUT_OF_MEMORY, _explain(ending, "out_of_memory", out_of_memory)
    return JobState.FAILED, _explain_failure(ending)


def _explain_failure(ending: Ending) -> Failure:
    said = find_error_line(ending.lines, ending.secrets)
    match ending.returncode:
        case WorkExit.DIVERGED:
            return _explain(ending, "diverged", said or "the loss diverged (status 65)")
        case WorkExit.BAD_REQUEST | WorkExit.BAD_CONFIG:
            return _explain(ending, "bad_request", said or _describe_refusal(ending))
    number = ending.signal_number
    if number is None:
        return _explain_status(ending, said)
    if number in _CRASHES:
        return _explain(ending, "crash", f"crashed with {signal_name(number)}")
    if ending.leave is Leave.ASKED:
        return _explain(ending, "killed", f"asked to leave from outside, and ended by {signal_name(number)}")
    return _explain(ending, "killed", f"ended by {signal_name(number)}, which came from outside the job")


def _describe_refusal(ending: Ending) -> str:
    # Programs that refuse their arguments say why in their last line, and end with one of these two statuses.
    last = next(iter(ending.lines[-1:]), "")
    why = hide_secrets(last.strip(), ending.secrets) or "the request is wrong"
    return f"{why} (status {ending.returncode})"


def _explain_status(ending: Ending, said: str | None) -> Failure:
    if said is not None:
        return _explain(ending, "storage" if names_disk_trouble(said) else "crash", said)
    left = f"ended with status {ending.returncode}"
    if ending.disk is None:
        return _explain(ending, "crash", left)
    # What it had to say of itself found no room either.
    return _explain(ending, "storage", f"{left}; {ending.disk}")


def _find_memory_evidence(ending: Ending) -> str | None:
    line = find_out_of_memory(ending.lines)
    if line is not None:
        return hide_secrets(line, ending.secrets)
    if ending.signal_number == signal.SIGKILL and ending.oom_kills:
        return f"ended by SIGKILL while the kernel counted {ending.oom_kills} out-of-memory kills in this control group"
    return None


def _describe_leaving(ending: Ending) -> str:
    number = ending.signal_number
    return f"ended with status {ending.returncode}" if number is None else f"was ended by {signal_name(number)}"


def _describe_time_out(ending: Ending) -> str:
    how = "left when asked" if ending.signal_number != signal.SIGKILL else "did not leave when asked, and was killed"
    saved = "; it saved a checkpoint" if ending.returncode == WorkExit.SAVED_AND_LEFT else ""
    return f"reached its walltime of {format_duration(ending.walltime_s)}; {how}{saved}"


def _explain(ending: Ending, kind: str, message: str) -> Failure:
    evidence = pick_evidence(ending.lines, ending.secrets)
    if ending.said is not None:
        # The program knows better than its status does.
        message = hide_secrets(ending.said.message, ending.secrets)
        kind = ending.said.kind if kind in ("crash", "storage") else kind
        evidence = ending.said.evidence or evidence
    return Failure(kind, message, evidence)
