"""A single run whose launch was cut off is ended on record; one that may still be handed over never is."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from nexa_contracts.clock import SystemClock
from nexa_contracts.errors import AlreadyExists, ConfigError, Refused, StorageError
from nexa_contracts.run import RunOutcome
from nexa_contracts.states import JobState
from nexa_infra.operations.backends import create_backend
from nexa_infra.operations.context import Context, open_context
from nexa_infra.operations.launch import launch_training_job
from nexa_infra.operations.reconcile import settle_costs, settle_ended
from nexa_infra.operations.unsubmitted import check_unsettled, hold_launch, settle_unsubmitted
from nexa_infra.process import SystemRunner
from nexa_infra.scheduling.backend import LaunchRequest
from nexa_infra.scheduling.slurm.chunks import Chunk
from nexa_infra.storage.manifests import find_cost, find_outcome, record_manifest, record_outcome
from nexa_infra.testing.backend import STAMP, make_entry, write_plan
from nexa_infra.testing.clock import FakeClock
from tests.cli.cli_process import end_supervisor
from tests.operations.cut_off import cut_off_launch
from tests.storage.manifests_made import SWEEP, make_manifest, make_outcome

RUN = f"run_{STAMP}"


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return open_context(tmp_path, clock=FakeClock(), environment=dict(os.environ))


def plan(context: Context, **changes: Any) -> None:
    """Plan a run, and be killed before it is handed over."""
    with hold_launch(context, RUN):
        record_manifest(context.project, make_manifest(run_id=RUN, **changes))


def fail(context: Context, error: BaseException, **changes: Any) -> None:
    """Plan a run, and fail before it is handed over."""
    with hold_launch(context, RUN):
        record_manifest(context.project, make_manifest(run_id=RUN, **changes))
        raise error


def settle(context: Context) -> tuple[str, ...]:
    return settle_unsubmitted(context.project, [RUN], environment=context.environment, clock=context.clock)


def outcome_of(context: Context) -> RunOutcome:
    outcome = find_outcome(context.project, RUN)
    assert outcome is not None
    return outcome


def test_a_run_that_was_planned_and_never_handed_over_is_ended_once_with_what_to_do(context: Context) -> None:
    plan(context, config_source="exp/a b.yaml", overrides={"max_retries": "0"})
    assert settle(context) == (RUN,)
    outcome = outcome_of(context)
    assert (outcome.state, outcome.attempts, outcome.seconds) == (JobState.FAILED, 0, 0.0)
    assert outcome.failure is not None
    assert outcome.failure.kind == "not_submitted"
    assert outcome.failure.evidence == ("launch it again: nexa launch 'exp/a b.yaml' --set max_retries=0",)
    assert settle(context) == ()


@pytest.mark.parametrize("everything", [False, True])
def test_whoever_settles_costs_settles_it_too_and_it_cost_nothing(context: Context, everything: bool) -> None:
    plan(context)
    assert (settle_ended(context) if everything else settle_costs(context, [RUN])) == 1
    cost = find_cost(context.project, RUN)
    assert cost is not None
    assert cost.total == 0.0


def test_while_its_launch_lives_nothing_is_settled(context: Context) -> None:
    with hold_launch(context, RUN):
        record_manifest(context.project, make_manifest(run_id=RUN))
        assert settle(context) == ()
        with pytest.raises(AlreadyExists), hold_launch(context, RUN):
            pass
    assert settle(context) == (RUN,)


def test_a_launch_that_is_stopped_and_not_dead_still_holds_its_run(context: Context, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from nexa_infra.operations.context import open_context\n"
        "from nexa_infra.operations.unsubmitted import hold_launch\n"
        f"with hold_launch(open_context(Path({str(tmp_path)!r})), {RUN!r}):\n"
        "    print('holds', flush=True); os.kill(os.getpid(), signal.SIGSTOP)"
    )
    child = SystemRunner().start([sys.executable, "-c", code], output="pipes", end_with_us=True)
    assert child.stdout.readline() == b"holds\n"
    record_manifest(context.project, make_manifest(run_id=RUN))
    assert settle(context) == ()
    os.killpg(child.pid, 9)
    assert child.wait(60) == -9
    child.close()
    assert settle(context) == (RUN,)


@pytest.mark.parametrize(
    ("name", "text"), [("submission.json", "{}"), ("attempts/1.json", "{}"), ("attempts/1.result.json", "{}")]
)
def test_a_sign_that_it_was_handed_over_is_enough(context: Context, name: str, text: str) -> None:
    plan(context)
    path = context.project.run(RUN) / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert settle(context) == ()


def test_a_run_in_the_queue_is_left_alone(context: Context) -> None:
    plan(context)
    code = "import time; time.sleep(600)"
    entry = make_entry(context.project.root, code, run_id=RUN, run_dir=str(context.project.run(RUN)))
    backend = create_backend("local", context)
    request = LaunchRequest(submission=RUN, entries={0: entry}, resources=entry.resources)
    made = backend.plan(request, context.site)
    handles = backend.submit(made, write_plan(made, context.project.root))
    try:
        assert settle(context) == ()
        (context.project.run(RUN) / ".launch.lock").unlink()
        with pytest.raises(StorageError), hold_launch(context, RUN):
            raise StorageError("the supervisor did not start")  # after the queue took it
        assert find_outcome(context.project, RUN) is None
    finally:
        backend.cancel(handles)
        end_supervisor()


def test_only_the_machine_and_the_queue_it_was_meant_for_can_tell(context: Context, tmp_path: Path) -> None:
    plan(context)
    elsewhere = {**context.environment, "NEXA_STATE_DIR": str(tmp_path / "another")}
    assert settle_unsubmitted(context.project, [RUN], environment=elsewhere, clock=context.clock) == ()
    assert settle(context) == (RUN,)


def test_a_damaged_queue_tells_nothing(context: Context, state_dir: Path) -> None:
    plan(context)
    (state_dir / os.uname().nodename.partition(".")[0]).mkdir(exist_ok=True)
    queue = state_dir / os.uname().nodename.partition(".")[0] / "queue.sqlite3"
    queue.write_bytes(os.urandom(8192))
    assert settle(context) == ()
    queue.unlink()
    assert settle(context) == (RUN,)


def test_members_of_sweeps_and_runs_of_other_backends_are_left_to_be_resumed(context: Context) -> None:
    plan(context, sweep_id=SWEEP, index=0)
    assert settle(context) == ()
    context.project.manifest(RUN).unlink()
    record_manifest(context.project, make_manifest(run_id=RUN, backend="ssh"))
    assert settle(context) == ()


def test_a_run_that_slurm_was_asked_to_take_is_left_to_slurm(context: Context) -> None:
    plan(context, backend="slurm", config_source="a.yaml")
    chunk = Chunk(folder=context.project.run(RUN), number=0, name=RUN, options=(), arguments=(), runs={RUN: 0})
    chunk.save()
    assert settle(context) == ()
    chunk.forget()
    assert settle(context) == (RUN,)
    failure = outcome_of(context).failure
    assert failure is not None
    assert failure.evidence == ("launch it again: nexa launch a.yaml --backend slurm",)


def test_a_launch_that_fails_when_its_run_is_planned_records_its_own_reason_at_once(context: Context) -> None:
    with pytest.raises(ConfigError, match="TOKEN"):
        fail(context, ConfigError("secrets: TOKEN is set nowhere", hint="export it"), config_source="a.yaml")
    outcome = outcome_of(context)
    assert (outcome.state, outcome.attempts) == (JobState.FAILED, 0)
    assert outcome.failure is not None
    assert outcome.failure.kind == "not_submitted"
    assert outcome.failure.message == (
        "it was planned and never submitted, because its launch failed: secrets: TOKEN is set nowhere; export it; "
        "nothing of it ran"
    )
    assert outcome.failure.evidence == ("launch it again: nexa launch a.yaml",)
    assert settle(context) == ()


def test_of_a_launch_that_fails_unexpectedly_the_class_of_the_error_is_told(context: Context) -> None:
    with pytest.raises(ValueError, match="odd"):
        fail(context, ValueError("odd"))
    failure = outcome_of(context).failure
    assert failure is not None
    assert "because its launch failed: ValueError: odd; nothing" in failure.message


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), AlreadyExists("the id of another launch")])
def test_what_says_nothing_of_the_run_is_not_recorded_as_the_reason(context: Context, error: BaseException) -> None:
    with pytest.raises(type(error)):
        fail(context, error)
    assert find_outcome(context.project, RUN) is None


def test_a_launch_whose_disk_fails_before_it_is_handed_over_shows_the_reason(tmp_path: Path) -> None:
    (tmp_path / "hello.yaml").write_text("command: [echo, hello]\nresources: {memory: 64MiB}\n")
    context = open_context(tmp_path, environment=dict(os.environ))
    failed: list[str] = []

    class FailingClock(SystemClock):
        def now(self) -> datetime:
            if not failed and any(context.project.manifests.glob("run_*.json")):
                failed.append("once")
                raise StorageError("the disk failed")
            return super().now()

    with pytest.raises(StorageError, match="the disk failed"):
        launch_training_job(tmp_path / "hello.yaml", context=replace(context, clock=FailingClock()))
    (path,) = context.project.manifests.glob("outcome_*.json")
    assert "because its launch failed: the disk failed; nothing" in json.loads(path.read_text())["failure"]["message"]


def test_a_launch_that_fails_before_it_holds_its_run_leaves_nothing(context: Context) -> None:
    class BrokenClock(FakeClock):
        def monotonic_s(self) -> float:
            raise StorageError("no locks available")

    with pytest.raises(StorageError, match="no locks"), hold_launch(replace(context, clock=BrokenClock()), RUN):
        pass
    assert not context.project.run(RUN).exists()


def test_a_run_of_a_version_that_left_no_mark_is_left_alone(context: Context) -> None:
    record_manifest(context.project, make_manifest(run_id=RUN))
    assert settle(context) == ()


def test_what_was_settled_is_not_handed_over_any_more(context: Context) -> None:
    with hold_launch(context, RUN):
        record_manifest(context.project, make_manifest(run_id=RUN))
        check_unsettled(context.project, RUN)
        record_outcome(context.project, make_outcome(run_id=RUN))
        with pytest.raises(Refused, match="launch it again"):
            check_unsettled(context.project, RUN)


def test_a_late_submission_of_a_settled_run_starts_nothing(context: Context) -> None:
    plan(context)
    assert settle(context) == (RUN,)
    before = context.project.outcome(RUN).read_bytes()
    code = "open('ran', 'w').write('x')"
    entry = make_entry(context.project.root, code, run_id=RUN, run_dir=str(context.project.run(RUN)), sweep_id=None)
    backend = create_backend("local", context)
    made = backend.plan(LaunchRequest(submission=RUN, entries={0: entry}, resources=entry.resources), context.site)
    handles = backend.submit(made, write_plan(made, context.project.root))
    while not all(state.is_final for state in backend.states(handles).values()):
        SystemRunner().run(["sleep", "0.1"], timeout_s=10)
    end_supervisor()
    assert not (context.project.root / "ran").exists()
    assert context.project.outcome(RUN).read_bytes() == before


def test_a_launch_that_was_interrupted_is_settled_by_whoever_looks(tmp_path: Path) -> None:
    (tmp_path / "hello.yaml").write_text("command: [echo, hello]\nresources: {memory: 64MiB}\n")
    context = open_context(tmp_path, environment=dict(os.environ))
    cut_off_launch(context, tmp_path / "hello.yaml")
    assert settle_ended(context) == 1
    (path,) = context.project.manifests.glob("outcome_*.json")
    assert json.loads(path.read_text())["failure"]["kind"] == "not_submitted"
