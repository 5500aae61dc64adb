"""The index answers from the manifests, whatever became of its database or of the journal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta

from nexa_contracts.clock import SystemClock
from nexa_contracts.cost import CostEstimate
from nexa_contracts.resources import Resources
from nexa_contracts.states import JobState
from nexa_infra.storage.index import open_index
from nexa_infra.storage.index_update import RELIST_S
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import record_cost, record_manifest, record_manifests, record_outcome, record_sweep
from nexa_infra.testing.clock import FakeClock
from tests.storage.index_asked import ids, open_ids
from tests.storage.manifests_made import (
    RATE,
    START,
    SWEEP,
    make_cost,
    make_failure,
    make_manifest,
    make_outcome,
    make_sweep,
    run_id_of,
)


def copy_in_unseen(project: Project, number: int) -> None:
    """Put a manifest into the folder as nobody can notice by the folder's time."""
    before = project.manifests.stat()
    project.manifest(run_id_of(number)).write_text(make_manifest(number).to_json())
    os.utime(project.manifests, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_run_is_answered_with_what_its_three_files_say(project: Project, clock: FakeClock) -> None:
    estimate = CostEstimate(runs=1, hours_per_run=1.0, units_per_run=2, rate=RATE, total=8.0)
    resources = Resources(nodes=2, gpus_per_node=1, gpu_type="H100-SXM")
    point = {"params.depth": 3}
    record_manifest(
        project,
        make_manifest(
            3, sweep_id=SWEEP, index=7, point=point, tags={"team": "x"}, resources=resources, estimate=estimate
        ),
    )
    with open_index(project, clock=clock) as index:
        (row,) = index.find_runs()
        assert (row.state, row.seconds, row.total_usd, row.is_costed, row.metrics) == (None, None, None, False, {})
        record_outcome(project, make_outcome(3, state=JobState.FAILED, failure=make_failure()))
        record_cost(project, make_cost(3, total=0.1))
        index.refresh()
        found = index.find_run(run_id_of(3))
    assert found is not None
    assert (found.sweep_id, found.member, found.name, found.backend) == (SWEEP, 7, "tiny", "local")
    assert (found.gpu_type, found.gpus, found.estimate_usd, found.resumes) == ("H100-SXM", 2, 8.0, None)
    assert found.hourly_usd == 8.0
    assert (found.point, found.tags) == (point, {"team": "x"})
    assert (found.created_at, found.ended_at) == (
        START + timedelta(minutes=3),
        START + timedelta(minutes=3, seconds=90),
    )
    assert (found.state, found.seconds, found.attempts, found.steps, found.tokens) == ("FAILED", 90.0, 1, 10, 1000)
    assert (found.loss, found.eval_loss) == (3.0, 3.5)
    assert found.failure == "crash: ValueError: 50% of the_rows are wrong"
    assert (found.total_usd, found.is_costed) == (0.1, True)


def test_an_unknown_cost_is_told_from_none_yet(project: Project, clock: FakeClock) -> None:
    record_manifests(project, [make_manifest(0), make_manifest(1)])
    record_cost(project, make_cost(0, total=None))
    with open_index(project, clock=clock) as index:
        assert [(row.total_usd, row.is_costed) for row in index.find_runs()] == [(None, False), (None, True)]


def test_new_manifests_are_found_without_listing_the_folder(project: Project, clock: FakeClock) -> None:
    record_manifest(project, make_manifest(0))
    with open_index(project, clock=clock) as index:
        copy_in_unseen(project, 1)
        record_manifest(project, make_manifest(2))
        record_manifests(project, [make_manifest(3), make_manifest(4)])
        index.refresh()
        assert ids(index) == [run_id_of(4), run_id_of(3), run_id_of(2), run_id_of(0)]
        index.refresh(relist=True)
        assert run_id_of(1) in ids(index)


def test_what_the_journal_explained_away_is_found_after_a_while(project: Project, clock: FakeClock) -> None:
    record_manifest(project, make_manifest(0))
    assert open_ids(project, clock) == [run_id_of(0)]
    copy_in_unseen(project, 1)
    assert open_ids(project, clock) == [run_id_of(0)]
    clock.advance(RELIST_S)
    assert open_ids(project, clock) == [run_id_of(1), run_id_of(0)]


def test_a_wall_clock_set_back_lists_rather_than_trusts(project: Project, clock: FakeClock) -> None:
    record_manifest(project, make_manifest(0))
    assert open_ids(project, clock) == [run_id_of(0)]
    copy_in_unseen(project, 1)
    clock.jump(-3600.0)
    assert open_ids(project, clock) == [run_id_of(1), run_id_of(0)]


def test_a_manifest_copied_in_by_hand_is_found_at_once(project: Project, clock: FakeClock) -> None:
    record_manifest(project, make_manifest(0))
    assert open_ids(project, clock) == [run_id_of(0)]
    project.manifest(run_id_of(1)).write_text(make_manifest(1).to_json())
    os.utime(project.manifests)
    assert open_ids(project, clock) == [run_id_of(1), run_id_of(0)]


def test_a_copy_before_a_journalled_creation_is_found_too(project: Project, clock: FakeClock) -> None:
    record_manifest(project, make_manifest(0))
    assert open_ids(project, clock) == [run_id_of(0)]
    project.manifest(run_id_of(1)).write_text(make_manifest(1).to_json())
    later_ns = project.manifests.stat().st_mtime_ns + 10**9
    os.utime(project.manifests, ns=(later_ns, later_ns))
    record_manifest(project, make_manifest(2))
    assert open_ids(project, clock) == [run_id_of(2), run_id_of(1), run_id_of(0)]


def test_a_folder_changed_within_the_last_tick_is_looked_at_again(project: Project) -> None:
    record_manifest(project, make_manifest(0))
    stamp = project.manifests.stat().st_mtime_ns
    clock = FakeClock(SystemClock().now())
    clock.jump(stamp / 1e9 - clock.now().timestamp())
    assert open_ids(project, clock) == [run_id_of(0)]
    copy_in_unseen(project, 1)
    assert open_ids(project, clock) == [run_id_of(1), run_id_of(0)]


def test_a_removed_manifest_disappears(project: Project, clock: FakeClock) -> None:
    record_manifests(project, [make_manifest(0), make_manifest(1)])
    record_outcome(project, make_outcome(1))
    assert len(open_ids(project, clock)) == 2
    project.outcome(run_id_of(1)).unlink()
    project.manifest(run_id_of(0)).unlink()
    with open_index(project, clock=clock) as index:
        assert [(row.run_id, row.state) for row in index.find_runs()] == [(run_id_of(1), None)]


def test_an_outcome_is_no_run_until_its_manifest_comes(project: Project, clock: FakeClock) -> None:
    record_outcome(project, make_outcome(0))
    with open_index(project, clock=clock) as index:
        assert ids(index) == []
        assert index.find_run(run_id_of(0)) is None
        record_manifest(project, make_manifest(0))
        index.refresh()
        assert [row.state for row in index.find_runs()] == ["SUCCEEDED"]


def test_sweeps_are_listed(project: Project, clock: FakeClock) -> None:
    record_sweep(project, make_sweep(count=3))
    with open_index(project, clock=clock) as index:
        (sweep,) = index.find_sweeps()
    assert (sweep.sweep_id, sweep.name, sweep.run_count) == (SWEEP, "depths", 3)
    assert (sweep.metric, sweep.direction) == ("eval_loss", "minimize")


def test_processes_that_refresh_at_once_agree(project: Project) -> None:
    record_manifests(project, [make_manifest(number) for number in range(300)])
    program = (
        "import sys; from pathlib import Path; from nexa_infra.storage.index import open_index;"
        "from nexa_infra.storage.layout import Project;"
        "index = open_index(Project(Path(sys.argv[1]))); print(index.count_runs(), index.problems)"
    )
    command = [sys.executable, "-c", program, str(project.root)]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = {reader.communicate()[0].strip() for reader in readers}
    assert answers == {"300 ()"}


def test_a_crash_while_building_leaves_nothing_half(project: Project, clock: FakeClock) -> None:
    record_manifest(project, make_manifest(0))
    program = (
        "import os, sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('BEGIN IMMEDIATE')\n"
        "connection.execute('CREATE TABLE runs (half)')\n"
        "connection.execute('PRAGMA user_version = 1')\n"
        "os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(project.index)], check=False)
    assert open_ids(project, clock) == [run_id_of(0)]


def test_rows_hold_json_that_others_can_read(project: Project, clock: FakeClock) -> None:
    record_manifest(project, make_manifest(0))
    with open_index(project, clock=clock) as index:
        (row,) = index.find_runs()
    assert json.loads(row.asked_json)["name"] == "tiny"
