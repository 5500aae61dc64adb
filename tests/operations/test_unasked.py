"""Members of a sweep that were written and never submitted: told as such, and ended on record when asked to."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from nexa_contracts.states import JobState
from nexa_infra.operations.context import Context, open_context
from nexa_infra.operations.launch import launch_sweep
from nexa_infra.operations.live import live_states
from nexa_infra.operations.status import Watcher
from nexa_infra.operations.sweep_lock import hold_sweep
from nexa_infra.operations.unasked import end_unasked, find_unasked
from nexa_infra.operations.watching import Keeper
from nexa_infra.process import Call, Completed, SystemRunner
from nexa_infra.scheduling.fence import Owner, claim_run
from nexa_infra.storage.manifests import read_outcome
from nexa_infra.testing.clock import FakeClock
from nexa_infra.testing.slurm import FakeSlurm

SWEEP = """\
run: {command: [python3, -c, print(1)], resources: {memory: 64MiB}}
axes:
  params.x: {values: [1, 2]}
"""
JOB = Owner(cluster="fake", job_id="7_0", name="nexa")


class WithSlurm(FakeSlurm):
    """A machine of a cluster, which has git and all else too."""

    def _run(self, call: Call) -> Completed:
        if call.argv[0].startswith(("sb", "sq", "sc", "sa", "si")):
            return super()._run(call)
        return SystemRunner().run(list(call.argv), timeout_s=call.timeout_s, cwd=call.cwd)


@pytest.fixture(params=["local", "slurm"])
def context(request: pytest.FixtureRequest, tmp_path: Path, state_dir: Path) -> Context:
    (tmp_path / "nexa.yaml").write_text(f"backend: {request.param}\n")
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    return open_context(tmp_path, clock=FakeClock(), runner=WithSlurm(), environment=dict(os.environ))


def write_sweep(context: Context) -> tuple[str, tuple[str, ...]]:
    path = context.project.root / "sweep.yaml"
    written = launch_sweep(path, backend=context.site.backend, submit=False, context=context)
    return written.submission, written.run_ids


def end(context: Context, run_ids: tuple[str, ...]) -> frozenset[str]:
    live = live_states(context.project, environment=context.environment, clock=context.clock)
    return end_unasked(context, run_ids, live=live)


def test_a_member_that_was_only_written_is_told_as_such(context: Context) -> None:
    sweep_id, run_ids = write_sweep(context)
    live = live_states(context.project, environment=context.environment, clock=context.clock)
    view = Watcher(context.project, sweep_id, run_ids, live).look()
    assert view.counts == {"NOT SUBMITTED": 2}
    assert {run.state for run in view.runs} == {JobState.UNKNOWN}
    assert {run.reason for run in view.runs} == {f"not submitted: nexa sweep --resume {sweep_id} submits it"}


def test_a_member_that_was_only_written_is_ended_on_record_and_claimed(context: Context) -> None:
    sweep_id, run_ids = write_sweep(context)
    assert end(context, run_ids[:1]) == {run_ids[0]}
    outcome = read_outcome(context.project, run_ids[0])
    assert (outcome.state, outcome.sweep_id, outcome.index, outcome.attempts) == (JobState.CANCELLED, sweep_id, 0, 0)
    assert outcome.failure is not None
    assert outcome.failure.message == "cancelled on request before it was submitted"
    assert claim_run(context.project.run_dir(run_ids[0]), JOB, clock=context.clock) != JOB
    assert find_unasked(context.project, run_ids) == {run_ids[1]: sweep_id}
    assert end(context, run_ids) == {run_ids[1]}


def test_a_member_that_a_job_has_claimed_is_left_to_it(context: Context) -> None:
    _, run_ids = write_sweep(context)
    claim_run(context.project.run_dir(run_ids[0]), JOB, clock=context.clock)
    assert end(context, run_ids) == {run_ids[1]}
    assert not context.project.outcome(run_ids[0]).exists()


@pytest.mark.parametrize(
    "sign", ["submission.json", "slurm/chunk-0.json", "resume-29990101_000000_aaaa/submission.json"]
)
def test_what_was_ever_asked_for_is_not_taken_for_only_written(context: Context, sign: str) -> None:
    sweep_id, run_ids = write_sweep(context)
    path = context.project.run(sweep_id) / sign
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({}))
    assert find_unasked(context.project, run_ids) == {}


def test_a_run_without_a_sweep_is_not_one(context: Context) -> None:
    assert find_unasked(context.project, ["run_20260102_030405_abcd"]) == {}


def test_members_are_not_ended_while_their_sweep_is_being_submitted(context: Context) -> None:
    sweep_id, run_ids = write_sweep(context)
    found: list[frozenset[str]] = []
    with hold_sweep(context, sweep_id):
        thread = threading.Thread(target=lambda: found.append(end(open_again(context), run_ids)))
        thread.start()
        (context.project.run(sweep_id) / "submission.json").write_text("{}")
    thread.join(60)
    assert found == [frozenset()]


def test_a_watcher_ends_where_runs_were_only_written_and_names_them(context: Context) -> None:
    sweep_id, run_ids = write_sweep(context)
    keeper = Keeper(context)
    look = keeper.look()
    assert (look.is_over, look.counts, look.written) == (True, {}, {sweep_id: 2})
    end(context, run_ids[:1])
    assert keeper.look().written == {sweep_id: 1}


def test_a_watcher_waits_for_a_sweep_that_is_being_submitted(context: Context) -> None:
    sweep_id, _ = write_sweep(context)
    with hold_sweep(context, sweep_id):
        look = Keeper(context).look()
    assert (look.is_over, look.counts, look.written) == (False, {"NOT SUBMITTED": 2}, {})


def open_again(context: Context) -> Context:
    return open_context(context.project.root, runner=WithSlurm(), environment=context.environment)
