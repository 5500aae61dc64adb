"""A job that ended before it could put itself back into the queue is put there, as far as the budgets of its run go."""

from __future__ import annotations

from typing import Any

import pytest

from nexa_contracts.states import JobState
from nexa_infra.scheduling.ending import Leave
from nexa_infra.scheduling.fence import Owner, claim_run, note_leaving, start_attempt
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import find_outcome, read_attempts
from nexa_infra.testing.backend import STAMP, make_request
from tests.scheduling.slurm.fake_site import SWEEP, FakeSite

RUNS = [f"run_{STAMP}-{index:03d}" for index in range(3)]


def launch(site: FakeSite, *, rows: int = 1, slurm: dict[str, Any] | None = None, **budget: Any) -> None:
    """Let a job start whose first row has begun."""
    request = make_request(site.root, *["pass"] * rows, **budget)
    site.submit(site.backend.plan(request, site.config(**(slurm or {}))))
    site.slurm.start(1)


def begin(site: FakeSite, *, leaves: Leave | None = None) -> None:
    run_dir = Project(site.root).run_dir(RUNS[0])
    claim_run(run_dir, Owner("fake", "1_0", f"{SWEEP}.c0"), clock=site.clock)
    fence = start_attempt(run_dir, 1, restarts=0, clock=site.clock)
    assert fence is not None
    if leaves is not None:
        note_leaving(fence, leaves)


def states(site: FakeSite) -> list[JobState]:
    return [attempt.state for attempt in read_attempts(Project(site.root), RUNS[0])]


@pytest.mark.parametrize(
    ("word", "leaves", "budget", "state"),
    [
        ("FAILED", None, {"max_retries": 1}, JobState.FAILED),
        ("NODE_FAIL", None, {"max_retries": 1}, JobState.NODE_FAILED),
        ("TIMEOUT", None, {"max_time_outs": 1}, JobState.TIMED_OUT),
        ("FAILED", Leave.PREEMPTED, {"max_retries": 0}, JobState.PREEMPTED),
        ("FAILED", Leave.TIMED_OUT, {"max_time_outs": 1}, JobState.TIMED_OUT),
    ],
)
def test_it_starts_again_while_there_is_a_budget_for_how_it_ended(
    site: FakeSite, word: str, leaves: Leave | None, budget: dict[str, Any], state: JobState
) -> None:
    launch(site, **budget)
    begin(site, leaves=leaves)
    site.slurm.end(1, word)
    (told,) = site.backend.run_states(RUNS[:1]).values()
    assert told.state is JobState.UNKNOWN
    assert "it starts again" in (told.reason or "")
    task = site.slurm.jobs[1].tasks[0]
    assert (task.state, task.restarts) == ("PENDING", 1)
    assert states(site) == [state]
    assert site.backend.run_states(RUNS[:1])[RUNS[0]].state is JobState.PENDING  # and whoever looks next leaves it so
    assert task.restarts == 1
    assert find_outcome(Project(site.root), RUNS[0]) is None


@pytest.mark.parametrize(
    ("word", "budget", "slurm"),
    [
        ("FAILED", {"max_retries": 0}, {}),
        ("TIMEOUT", {"max_retries": 9}, {}),
        ("OUT_OF_MEMORY", {"max_retries": 9}, {}),
        ("CANCELLED", {"max_retries": 9}, {}),
        ("NODE_FAIL", {"max_retries": 9}, {"requeue": False}),
    ],
)
def test_it_does_not_without_a_budget_or_where_the_site_wants_none_of_it(
    site: FakeSite, word: str, budget: dict[str, Any], slurm: dict[str, Any]
) -> None:
    launch(site, slurm=slurm, **budget)
    begin(site)
    site.slurm.end(1, word)
    assert site.backend.run_states(RUNS[:1])[RUNS[0]].state.is_final
    assert site.outcome().attempts == 1
    assert site.slurm.jobs[1].tasks[0].restarts == 0


def test_what_somebody_wants_to_end_does_not_start_again(site: FakeSite) -> None:
    launch(site, max_retries=9)
    begin(site)
    site.slurm.end(1, "FAILED")
    site.slurm.is_down = True
    with pytest.raises(Exception, match="Unable to contact"):
        site.backend.cancel_runs(RUNS[:1])
    site.slurm.is_down = False
    assert site.backend.run_states(RUNS[:1])[RUNS[0]].state.is_final
    assert site.slurm.jobs[1].tasks[0].restarts == 0


def test_the_rows_behind_it_in_its_task_go_on_with_it(site: FakeSite) -> None:
    launch(site, rows=3, slurm={"rows_per_task": 3}, max_retries=1)
    begin(site)
    site.slurm.end(1, "FAILED")
    site.backend.run_states(RUNS)
    assert site.slurm.jobs[1].tasks[0].restarts == 1
    assert [find_outcome(Project(site.root), run_id) for run_id in RUNS] == [None] * 3


@pytest.mark.parametrize("retries", [1, 3])
def test_a_start_that_ends_before_it_begins_anything_uses_up_the_budget_too(site: FakeSite, retries: int) -> None:
    launch(site, max_retries=retries)
    begin(site)
    site.slurm.end(1, "FAILED")
    for _ in range(10):
        site.backend.run_states(RUNS[:1])
        site.clock.advance(60)
        site.slurm.start(1)
        site.slurm.end(1, "FAILED", exit_code=1)
    assert site.slurm.jobs[1].tasks[0].restarts == retries
    assert (site.outcome().state, site.outcome().attempts) == (JobState.FAILED, 1)
    failure = site.outcome().failure
    assert failure is not None
    assert failure.message.endswith("it had not begun another attempt")


@pytest.mark.parametrize("word", ["FAILED", "NODE_FAIL", "TIMEOUT", "OUT_OF_MEMORY"])
def test_rows_that_have_not_begun_go_on_though_the_one_before_them_may_not(site: FakeSite, word: str) -> None:
    launch(site, rows=3, slurm={"rows_per_task": 3}, max_retries=0)
    begin(site)
    site.slurm.end(1, word)
    site.backend.run_states(RUNS)
    assert site.outcome(0).state.is_final
    assert site.slurm.jobs[1].tasks[0].restarts == 1
    assert [find_outcome(Project(site.root), run_id) for run_id in RUNS[1:]] == [None] * 2
    site.slurm.run_waiting()
    site.backend.run_states(RUNS)
    assert [site.outcome(row).state for row in (1, 2)] == [JobState.SUCCEEDED] * 2


def test_rows_that_have_not_begun_do_not_go_on_for_ever(site: FakeSite) -> None:
    launch(site, rows=3, slurm={"rows_per_task": 3}, max_retries=1)
    begin(site)
    for _ in range(10):
        site.slurm.end(1, "FAILED")
        site.backend.run_states(RUNS)
        site.slurm.start(1)
    assert site.slurm.jobs[1].tasks[0].restarts == 2  # the second start and the third began nothing
    assert [site.outcome(row).attempts for row in range(3)] == [1, 0, 0]


def test_a_task_of_which_no_row_ever_began_ends_at_once(site: FakeSite) -> None:
    launch(site, rows=3, slurm={"rows_per_task": 3}, max_retries=9)
    site.slurm.end(1, "FAILED")
    site.backend.run_states(RUNS)
    assert site.slurm.jobs[1].tasks[0].restarts == 0
    assert [site.outcome(row).attempts for row in range(3)] == [0, 0, 0]


def test_a_run_whose_files_are_damaged_ends_on_record_beside_those_that_ran(site: FakeSite) -> None:
    launch(site, rows=3, slurm={"rows_per_task": 3}, max_retries=1)
    owner = Project(site.root).run_dir(RUNS[0]).owner
    owner.parent.mkdir(parents=True)
    owner.write_text("{damaged")
    site.slurm.jobs[1].tasks[0].state = "PENDING"
    for _ in range(4):
        site.slurm.run_waiting()
        site.backend.run_states(RUNS)
    assert site.slurm.jobs[1].tasks[0].restarts == 2
    assert [site.outcome(row).state for row in (1, 2)] == [JobState.SUCCEEDED] * 2
    failure = site.outcome(0).failure
    assert failure is not None
    assert any("owner.json: damaged" in line for line in failure.evidence)
