from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_contracts.states import JobState
from nexa_infra.scheduling.records import Attempt, Failure
from nexa_infra.scheduling.settle import LONGEST_DELAY_S, Decision, decide

NOW = datetime(2026, 1, 2, tzinfo=UTC)
OK, BAD, LEFT, DOWN = JobState.SUCCEEDED, JobState.FAILED, JobState.PREEMPTED, JobState.NODE_FAILED
LATE, MEMORY, STOPPED = JobState.TIMED_OUT, JobState.OUT_OF_MEMORY, JobState.CANCELLED


@dataclass(frozen=True)
class Budget:
    max_retries: int = 9
    max_preemptions: int = 9
    max_time_outs: int = 0
    max_moves: int = 0


def attempts(*states: JobState, status: int | None = 1, failure: Failure | None = None) -> list[Attempt]:
    return [
        Attempt(
            run_id="run_20260102_030405_k3f9",
            number=number,
            state=state,
            started_at=NOW,
            ended_at=NOW,
            seconds=1.0,
            exit_code=status,
            failure=failure,
        )
        for number, state in enumerate(states, start=1)
    ]


@pytest.mark.parametrize(
    ("states", "budget", "again", "state"),
    [
        ([OK], Budget(), False, OK),
        ([BAD], Budget(max_retries=0), False, BAD),
        ([BAD], Budget(max_retries=1), True, JobState.PENDING),
        ([BAD, BAD], Budget(max_retries=1), False, BAD),
        ([BAD, OK], Budget(max_retries=1), False, OK),
        ([LEFT], Budget(max_retries=0), True, LEFT),
        ([LEFT, LEFT, BAD], Budget(max_retries=1), True, JobState.PENDING),
        ([BAD, LEFT, BAD], Budget(max_retries=1), False, BAD),
        ([LEFT] * 3, Budget(max_preemptions=3), True, LEFT),
        ([LEFT] * 4, Budget(max_preemptions=3), False, BAD),
        ([LEFT], Budget(max_preemptions=0), False, BAD),
        ([DOWN], Budget(max_retries=0), False, DOWN),
        ([DOWN], Budget(max_retries=1), True, JobState.PENDING),
        ([BAD, DOWN], Budget(max_retries=1), False, DOWN),
        ([LATE], Budget(max_time_outs=0), False, LATE),
        ([LATE], Budget(max_time_outs=1), True, JobState.PENDING),
        ([LATE, BAD, LATE], Budget(max_time_outs=1), False, LATE),
        ([MEMORY], Budget(), False, MEMORY),
        ([STOPPED], Budget(), False, STOPPED),
    ],
)
def test_what_follows_an_attempt(states: list[JobState], budget: Budget, again: bool, state: JobState) -> None:
    decision = decide(attempts(*states), budget)
    assert (decision.again, decision.state) == (again, state)


@given(st.lists(st.sampled_from([BAD, LEFT, DOWN, LATE]), min_size=1), st.integers(0, 4), st.integers(0, 4))
def test_each_kind_of_end_uses_up_its_own_budget_and_no_other(
    states: list[JobState], retries: int, others: int
) -> None:
    budget = Budget(max_retries=retries, max_preemptions=others, max_time_outs=others)
    used = {
        BAD: states.count(BAD) + states.count(DOWN) <= retries,
        LEFT: states.count(LEFT) <= others,
        LATE: states.count(LATE) <= others,
    }
    assert decide(attempts(*states), budget).again is used[BAD if states[-1] is DOWN else states[-1]]


def crash(text: str, *, step: int | None = 7, kind: str = "crash") -> Attempt:
    return replace(attempts(BAD, failure=Failure(kind, text, ("line",)))[0], step=step)


def test_the_same_exception_at_the_same_step_is_not_tried_a_third_time() -> None:
    first = crash("ValueError: bad row at 0x7f01")
    assert decide([first], Budget()).again
    decision = decide([first, crash("ValueError: bad row at 0x7fff")], Budget())
    assert not decision.again
    failure = decision.conclude(first).failure
    assert failure is not None
    assert failure.message.endswith("; the same as in attempt 1 at step 7, so it is not tried again")
    assert failure.evidence == ("line",)


@pytest.mark.parametrize(
    "second",
    [
        crash("ValueError: bad row", step=8),
        crash("ValueError: bad row", step=None),
        crash("KeyError: 'bad row'"),
        crash("ValueError: bad row", kind="storage"),
        crash("ValueError: bad row", kind="stalled"),
    ],
)
def test_another_crash_is_tried_again(second: Attempt) -> None:
    assert decide([crash("ValueError: bad row"), second], Budget()).again


def test_a_status_or_a_signal_alone_does_not_make_two_crashes_the_same() -> None:
    for text in ("ended with status 3", "crashed with SIGSEGV"):
        assert decide([crash(text), crash(text)], Budget()).again


def test_the_same_crash_is_known_across_a_preemption() -> None:
    one = crash("ValueError: bad row")
    assert not decide([one, *attempts(LEFT), one], Budget()).again


def test_what_a_run_that_was_preempted_too_often_ends_with_says_so() -> None:
    left = attempts(LEFT, LEFT)
    failure = decide(left, Budget(max_preemptions=1)).conclude(left[-1]).failure
    assert failure == Failure("preempted", "left 2 times; max_preemptions is 1")


@pytest.mark.parametrize("status", [2, 65, 78])
def test_some_statuses_are_never_tried_again(status: int) -> None:
    assert not decide(attempts(BAD, status=status), Budget()).again


def test_a_wrong_request_is_never_tried_again() -> None:
    failed = attempts(BAD, status=127, failure=Failure("bad_request", "no such program"))
    assert not decide(failed, Budget()).again


@pytest.mark.parametrize(("states", "state"), [([BAD], STOPPED), ([LEFT], STOPPED), ([DOWN], STOPPED), ([OK], OK)])
def test_a_cancel_that_came_between_two_attempts_ends_the_run(states: list[JobState], state: JobState) -> None:
    decision = decide(attempts(*states), Budget(), cancelled=True)
    assert (decision.again, decision.state) == (False, state)


def test_the_delay_before_another_attempt_doubles_up_to_a_limit() -> None:
    delays = [decide(attempts(*[BAD] * count), Budget(max_retries=999)).delay_s for count in (1, 2, 3, 500)]
    assert delays == [1.0, 2.0, 4.0, LONGEST_DELAY_S]
    assert decide(attempts(BAD, BAD, BAD, LEFT), Budget()).delay_s == 1.0


@pytest.mark.parametrize("states", [[], [JobState.RUNNING], [JobState.UNKNOWN]])
def test_there_is_nothing_to_decide_while_an_attempt_goes_on(states: list[JobState]) -> None:
    with pytest.raises(ValueError, match=r"nothing to decide|which is no end"):
        decide(attempts(*states), Budget())


REFUSED = Failure("node_unhealthy", "n2: gpu_ecc fail")


def test_nodes_that_were_refused_use_up_no_retry_and_are_tried_elsewhere_only() -> None:
    refused = attempts(DOWN, failure=REFUSED)
    assert decide(refused, Budget(max_retries=9)) == Decision(again=False, state=DOWN)
    moved = decide(refused, Budget(max_retries=0, max_moves=1))
    assert (moved.again, moved.is_elsewhere, moved.state) == (True, True, JobState.PENDING)
    assert not decide([*refused, *refused], Budget(max_moves=1)).again
    crashed = [*refused, *attempts(BAD)]
    assert decide(crashed, Budget(max_retries=1)).again
    assert not decide(crashed, Budget(max_retries=0)).again
    assert not decide(crashed, Budget(max_retries=1)).is_elsewhere
