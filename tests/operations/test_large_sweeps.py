"""A sweep of thousands is told from the index as a small one is from its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from nexa_contracts.run import FailureNote
from nexa_contracts.states import JobState
from nexa_infra.operations.live import member_rows
from nexa_infra.operations.status import MANY_RUNS, LiveState, RunView, Watcher
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import record_cost, record_manifests, record_outcome, record_sweep
from nexa_infra.storage.recorded import find_costed, find_ended
from tests.storage.manifests_made import SWEEP, make_cost, make_manifest, make_outcome, make_sweep, run_id_of

COUNT = MANY_RUNS + 50


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    record_sweep(project, make_sweep())
    record_manifests(project, (make_manifest(number, sweep_id=SWEEP, index=number) for number in range(COUNT)))
    for number in range(0, COUNT, 5):
        failure = FailureNote(kind="crash", message="no", evidence=("the line",)) if number % 2 else None
        state = JobState.FAILED if failure else JobState.SUCCEEDED
        record_outcome(project, make_outcome(number, sweep_id=SWEEP, index=number, state=state, failure=failure))
        if number % 3:
            record_cost(project, make_cost(number))
    return project


def ask(run_ids: Sequence[str]) -> Mapping[str, LiveState]:
    return {
        run_id: LiveState(JobState.PENDING, reason="waits: Priority")
        if number % 7
        else LiveState(JobState.RUNNING, 1, 36.0)
        for number, run_id in enumerate(run_ids)
    }


def simplify(view: RunView) -> RunView:
    # What has ended shows the steps it concluded and not its last words; a written cost counts and not a computed one.
    return replace(view, progress=None, cost=None)  # type: ignore[arg-type]


def test_it_is_the_same_view(project: Project) -> None:
    rows = member_rows(project, SWEEP)
    run_ids = [row.run_id for row in rows]
    quick = Watcher(project, SWEEP, run_ids, ask, rows=rows).look()
    slow = Watcher(project, SWEEP, run_ids, ask).look()
    assert [simplify(view) for view in quick.runs] == [simplify(view) for view in slow.runs]
    assert quick.counts == slow.counts
    costs = {view.index: view.cost for view in quick.runs}
    assert (costs[5], costs[0], costs[2]) == (0.1, 0.1, 0.0)


def test_later_looks_see_what_has_ended_since(project: Project) -> None:
    rows = member_rows(project, SWEEP)
    watcher = Watcher(project, SWEEP, [row.run_id for row in rows], ask, rows=rows)
    watcher.look()
    record_outcome(project, make_outcome(1, sweep_id=SWEEP, index=1))
    assert watcher.look().runs[1].state is JobState.SUCCEEDED


@pytest.mark.parametrize("many", [False, True])
def test_records_are_found_for_few_and_for_many(project: Project, many: bool) -> None:
    run_ids = [run_id_of(number) for number in range(COUNT if many else 20)]
    assert find_ended(project, run_ids) == {run_id for run_id in run_ids if project.outcome(run_id).exists()}
    assert find_costed(project, run_ids) == {run_id for run_id in run_ids if project.cost(run_id).exists()}
    assert find_ended(Project(project.root / "nowhere"), run_ids) == frozenset()
