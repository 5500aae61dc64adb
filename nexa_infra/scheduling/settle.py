"""What follows an attempt: another one, or the end. One pure decision, asked by the job entry and the supervisor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nexa_contracts.exit_codes import NEVER_RETRIED
from nexa_contracts.states import JobState
from nexa_infra.scheduling.records import Attempt

MAX_PREEMPTIONS = 100
"""A program that leaves with status 75 each time it is started would go on for ever."""
FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a run is started again, and after how many seconds."""

    again: bool
    state: JobState
    """Of the run: final, or PREEMPTED or PENDING while it waits for its next attempt."""
    delay_s: float = 0.0


def decide(attempts: Sequence[Attempt], *, max_retries: int, cancelled: bool = False) -> Decision:
    """Return what follows the last of a run's attempts.

    - SUCCEEDED, CANCELLED: the end. So is a cancel that arrived between two attempts.
    - TIMED_OUT: the end. Another attempt would cost another walltime, which nobody granted.
    - OUT_OF_MEMORY: the end. The same job on the same machine needs the same memory.
    - PREEMPTED: again, without using up a retry, at most MAX_PREEMPTIONS times.
    - FAILED with a status of `NEVER_RETRIED`, or because of the request itself: the end. Any other failure is a crash,
      and so is NODE_FAILED (a job may be what brings its machine down): again after a delay that doubles, at most
      `max_retries` times.

    Raises:
        ValueError: there is no attempt, or the last one has not ended.
    """
    if not attempts:
        raise ValueError("nothing to decide: no attempt has ended")
    last = attempts[-1]
    if cancelled and last.state is not JobState.SUCCEEDED:
        return Decision(again=False, state=JobState.CANCELLED)
    match last.state:
        case JobState.SUCCEEDED | JobState.CANCELLED | JobState.TIMED_OUT | JobState.OUT_OF_MEMORY:
            return Decision(again=False, state=last.state)
        case JobState.PREEMPTED:
            preemptions = sum(attempt.state is JobState.PREEMPTED for attempt in attempts)
            if preemptions > MAX_PREEMPTIONS:
                return Decision(again=False, state=JobState.FAILED)
            return Decision(again=True, state=JobState.PREEMPTED, delay_s=_delay_s(_count_trailing(attempts)))
        case JobState.FAILED | JobState.NODE_FAILED:
            crashes = sum(attempt.state in (JobState.FAILED, JobState.NODE_FAILED) for attempt in attempts)
            if _is_hopeless(last) or crashes > max_retries:
                return Decision(again=False, state=last.state)
            return Decision(again=True, state=JobState.PENDING, delay_s=_delay_s(crashes))
        case _:
            raise ValueError(f"attempt {last.number} of {last.run_id} has the state {last.state}, which is no end")


def _is_hopeless(last: Attempt) -> bool:
    return last.exit_code in NEVER_RETRIED or (last.failure is not None and last.failure.kind == "bad_request")


def _count_trailing(attempts: Sequence[Attempt]) -> int:
    count = 0
    for attempt in reversed(attempts):
        if attempt.state is not JobState.PREEMPTED:
            break
        count += 1
    return count


def _delay_s(times: int) -> float:
    return float(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(times - 1, 16)))
