from __future__ import annotations

from datetime import UTC, datetime

import pytest

from nexa_contracts.states import JobState
from nexa_infra.scheduling.records import Attempt, Failure
from nexa_infra.scheduling.settle import LONGEST_DELAY_S, MAX_PREEMPTIONS, decide

NOW = datetime(2026, 1, 2, tzinfo=UTC)
OK, BAD, LEFT, DOWN = JobState.SUCCEEDED, JobState.FAILED, JobState.PREEMPTED, JobState.NODE_FAILED
LATE, MEMORY, STOPPED = JobState.TIMED_OUT, JobState.OUT_OF_MEMORY, JobState.CANCELLED


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
    ("states", "max_retries", "again", "state"),
    [
        ([OK], 3, False, OK),
        ([BAD], 0, False, BAD),
        ([BAD], 1, True, JobState.PENDING),
        ([BAD, BAD], 1, False, BAD),
        ([BAD, OK], 1, False, OK),
        ([LEFT], 0, True, LEFT),
        ([LEFT, LEFT, BAD], 1, True, JobState.PENDING),
        ([BAD, LEFT, BAD], 1, False, BAD),
        ([LEFT] * MAX_PREEMPTIONS, 0, True, LEFT),
        ([LEFT] * (MAX_PREEMPTIONS + 1), 0, False, BAD),
        ([DOWN], 0, False, DOWN),
        ([DOWN], 1, True, JobState.PENDING),
        ([BAD, DOWN], 1, False, DOWN),
        ([LATE], 9, False, LATE),
        ([MEMORY], 9, False, MEMORY),
        ([STOPPED], 9, False, STOPPED),
    ],
)
def test_what_follows_an_attempt(states: list[JobState], max_retries: int, again: bool, state: JobState) -> None:
    decision = decide(attempts(*states), max_retries=max_retries)
    assert (decision.again, decision.state) == (again, state)


@pytest.mark.parametrize("status", [2, 65, 78])
def test_some_statuses_are_never_tried_again(status: int) -> None:
    assert not decide(attempts(BAD, status=status), max_retries=9).again


def test_a_wrong_request_is_never_tried_again() -> None:
    failed = attempts(BAD, status=127, failure=Failure("bad_request", "no such program"))
    assert not decide(failed, max_retries=9).again


@pytest.mark.parametrize(("states", "state"), [([BAD], STOPPED), ([LEFT], STOPPED), ([DOWN], STOPPED), ([OK], OK)])
def test_a_cancel_that_came_between_two_attempts_ends_the_run(states: list[JobState], state: JobState) -> None:
    decision = decide(attempts(*states), max_retries=9, cancelled=True)
    assert (decision.again, decision.state) == (False, state)


def test_the_delay_before_another_attempt_doubles_up_to_a_limit() -> None:
    delays = [decide(attempts(*[BAD] * count), max_retries=999).delay_s for count in (1, 2, 3, 500)]
    assert delays == [1.0, 2.0, 4.0, LONGEST_DELAY_S]
    assert decide(attempts(BAD, BAD, BAD, LEFT), max_retries=999).delay_s == 1.0


@pytest.mark.parametrize("states", [[], [JobState.RUNNING], [JobState.UNKNOWN]])
def test_there_is_nothing_to_decide_while_an_attempt_goes_on(states: list[JobState]) -> None:
    with pytest.raises(ValueError, match=r"nothing to decide|which is no end"):
        decide(attempts(*states), max_retries=1)
