"""What follows an attempt: another one, or the end. One pure decision, asked by job entries and the supervisor."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from nexa_contracts.exit_codes import NEVER_RETRIED
from nexa_contracts.states import NODE_UNHEALTHY, REPEATED_CRASH, JobState
from nexa_infra.scheduling.evidence import names_exception
from nexa_infra.scheduling.records import Attempt, Failure

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0
_CRASHED = (JobState.FAILED, JobState.NODE_FAILED)
_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")


class Budget(Protocol):
    """How often a run may be started again, by what ended it."""

    @property
    def max_retries(self) -> int:
        """After crashes, stalls and lost machines together."""
        ...

    @property
    def max_preemptions(self) -> int:
        """After it left because something else wanted its place."""
        ...

    @property
    def max_time_outs(self) -> int:
        """After it reached its walltime."""
        ...

    @property
    def max_moves(self) -> int:
        """On other nodes, after its nodes were refused before it started; 0 where there are none."""
        ...


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a run is started again, and after how many seconds."""

    again: bool
    state: JobState
    """Of the run: final, or PREEMPTED or PENDING while it waits for its next attempt."""
    delay_s: float = 0.0
    is_elsewhere: bool = False
    """Only another place will do: the job has to be put back into the queue."""
    why: str | None = None
    """Why it ends here, where the last attempt's own failure does not tell."""

    def conclude(self, last: Attempt) -> Attempt:
        """Return the last attempt as the run's outcome tells of it."""
        failure = last.failure
        if self.why is not None:
            kind = "preempted" if failure is None else failure.kind
            said = "" if failure is None else f"{failure.message}; "
            failure = Failure(kind, f"{said}{self.why}", () if failure is None else failure.evidence)
        return replace(last, state=self.state, failure=failure)


def decide(attempts: Sequence[Attempt], budget: Budget, *, cancelled: bool = False) -> Decision:
    """Return what follows the last of a run's attempts.

    - SUCCEEDED, CANCELLED: the end. So is a cancel that arrived between two attempts.
    - OUT_OF_MEMORY: the end. The same job on the same machine needs the same memory.
    - TIMED_OUT: again, at most `max_time_outs` times; each costs another walltime.
    - PREEMPTED: again, at most `max_preemptions` times. A program that leaves with status 75 each time it is started
      would go on for ever.
    - FAILED with a status of `NEVER_RETRIED`, or because of the request itself: the end. Any other failure is a crash,
      and so is NODE_FAILED (a job may be what brings its machine down): again after a delay that doubles, at most
      `max_retries` times. An exception that came at the same step before would come again: the end.
    - Nodes that were refused before anything ran are no crash: again, on other nodes, at most `max_moves` times.

    Raises:
        ValueError: there is no attempt, or the last one has not ended.
    """
    if not attempts:
        raise ValueError("nothing to decide: no attempt has ended")
    last = attempts[-1]
    if cancelled and last.state is not JobState.SUCCEEDED:
        return Decision(again=False, state=JobState.CANCELLED)
    match last.state:
        case JobState.SUCCEEDED | JobState.CANCELLED | JobState.OUT_OF_MEMORY:
            return Decision(again=False, state=last.state)
        case JobState.TIMED_OUT:
            again = sum(attempt.state is JobState.TIMED_OUT for attempt in attempts) <= budget.max_time_outs
            return Decision(again=again, state=JobState.PENDING if again else JobState.TIMED_OUT)
        case JobState.PREEMPTED:
            return _decide_preemption(attempts, budget)
        case JobState.FAILED | JobState.NODE_FAILED:
            return _decide_crash(attempts, budget)
        case _:
            raise ValueError(f"attempt {last.number} of {last.run_id} has the state {last.state}, which is no end")


def is_refusal(attempt: Attempt) -> bool:
    """Whether its nodes were refused before it started."""
    return attempt.failure is not None and attempt.failure.kind == NODE_UNHEALTHY


def _decide_preemption(attempts: Sequence[Attempt], budget: Budget) -> Decision:
    times = sum(attempt.state is JobState.PREEMPTED for attempt in attempts)
    if times > budget.max_preemptions:
        why = f"left {times} times; max_preemptions is {budget.max_preemptions}"
        return Decision(again=False, state=JobState.FAILED, why=why)
    return Decision(again=True, state=JobState.PREEMPTED, delay_s=_delay_s(_count_trailing(attempts)))


def _decide_crash(attempts: Sequence[Attempt], budget: Budget) -> Decision:
    last = attempts[-1]
    if is_refusal(last):
        again = sum(map(is_refusal, attempts)) <= budget.max_moves
        return Decision(again=again, state=JobState.PENDING if again else last.state, is_elsewhere=again)
    crashes = sum(attempt.state in _CRASHED and not is_refusal(attempt) for attempt in attempts)
    if _is_hopeless(last) or crashes > budget.max_retries:
        return Decision(again=False, state=last.state)
    same = next((earlier for earlier in attempts[:-1] if _is_same_crash(earlier, last)), None)
    if same is not None:
        where = "before its first step" if last.step is None else f"at step {last.step}"
        why = f"the same as in attempt {same.number} {where}, so it is not tried again"
        return Decision(again=False, state=last.state, why=why)
    return Decision(again=True, state=JobState.PENDING, delay_s=_delay_s(crashes))


def _is_hopeless(last: Attempt) -> bool:
    kind = None if last.failure is None else last.failure.kind
    return last.exit_code in NEVER_RETRIED or kind in ("bad_request", REPEATED_CRASH)


def _is_same_crash(one: Attempt, other: Attempt) -> bool:
    if one.failure is None or other.failure is None or (one.failure.kind, other.failure.kind) != ("crash", "crash"):
        return False
    # A status or a signal alone may have another cause each time.
    texts = {_ADDRESS.sub("0x", each.failure.message) for each in (one, other) if each.failure is not None}
    return one.step == other.step and len(texts) == 1 and names_exception(other.failure.message)


def _count_trailing(attempts: Sequence[Attempt]) -> int:
    count = 0
    for attempt in reversed(attempts):
        if attempt.state is not JobState.PREEMPTED:
            break
        count += 1
    return count


def _delay_s(times: int) -> float:
    return float(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(times - 1, 16)))
