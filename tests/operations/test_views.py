"""What a screen shows of a run, from the files a job writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nexa_contracts.states import JobState
from nexa_infra.operations.environment import job_environment, parse_smi
from nexa_infra.operations.plain_records import cost_so_far
from nexa_infra.operations.progress import Progress, read_progress
from nexa_infra.operations.status import LiveState, RunView, SubmissionView, Watcher, render_view
from nexa_infra.storage.layout import Project
from nexa_infra.storage.metrics import read_metrics

RUN = "run_20260102_030405_abcd"


def write_metrics(project: Project, *records: dict[str, Any], rest: str = "") -> Path:
    path = project.metrics(RUN)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + rest)
    return path


def beat(project: Project, step: int, of: int) -> None:
    project.heartbeat(RUN).write_text(json.dumps({"step": step, "max_steps": of, "time": "2026-01-02T03:04:05Z"}))


def test_progress_of_a_run_that_said_nothing_is_unknown(tmp_path: Path) -> None:
    assert read_progress(Project(tmp_path), RUN) == Progress()


def test_progress_takes_the_newest_and_works_out_the_time_left(tmp_path: Path) -> None:
    project = Project(tmp_path)
    write_metrics(
        project,
        {"time": "2026-01-02T00:00:00Z", "step": 10, "loss": 4.0, "tokens": 100, "tokens_per_s": 9.0, "attempt": 1},
        {"time": "2026-01-02T00:00:10Z", "step": 20, "loss": 3.0, "tokens": 200, "tokens_per_s": 10.0, "attempt": 1},
        {"time": "2026-01-02T00:00:10Z", "step": 20, "eval_loss": 3.5, "attempt": 1},
    )
    beat(project, 20, 100)
    found = read_progress(project, RUN)
    assert (found.step, found.max_steps, found.loss, found.eval_loss, found.tokens) == (20, 100, 3.0, 3.5, 200)
    assert found.seconds_left == pytest.approx(80.0)


def test_the_pace_of_an_earlier_attempt_says_nothing(tmp_path: Path) -> None:
    project = Project(tmp_path)
    write_metrics(
        project,
        {"time": "2026-01-02T00:00:00Z", "step": 10, "loss": 4.0, "attempt": 1},
        {"time": "2026-01-02T09:00:00Z", "step": 20, "loss": 3.0, "attempt": 2},
    )
    beat(project, 20, 100)
    assert read_progress(project, RUN).seconds_left is None


def test_half_a_line_and_a_damaged_line_are_passed_over(tmp_path: Path) -> None:
    path = write_metrics(
        Project(tmp_path), {"step": 1, "loss": 2.0}, rest='{"step": 2, "lo\n{"step": 3, "loss": 1.0}\n{"st'
    )
    assert [record["step"] for record in read_metrics(path)] == [1, 3]
    assert read_progress(Project(tmp_path), RUN).step == 3


@pytest.mark.parametrize(
    "odd",
    [
        {"step": None, "loss": 1.0, "time": "2026-01-02T00:00:01Z"},
        {"step": "two", "loss": 1.0, "time": "2026-01-02T00:00:01Z"},
        {"step": 15, "loss": 1.0, "time": 1767312000.0},
        {"step": 15, "loss": 1.0, "time": "yesterday"},
        {"step": 15, "loss": 1.0, "time": "2026-01-02T00:00:05"},
        {"step": 10**30, "loss": 10**400, "time": "2026-01-02T00:00:01Z"},
    ],
)
def test_what_a_program_of_ones_own_writes_oddly_is_passed_over(tmp_path: Path, odd: dict[str, Any]) -> None:
    project = Project(tmp_path)
    first, last = {"step": 10, "time": "2026-01-02T00:00:00Z"}, {"step": 20, "time": "2026-01-02T00:00:10Z"}
    write_metrics(project, first | {"loss": 4.0}, odd, last | {"loss": 3.0})
    beat(project, 20, 100)
    found = read_progress(project, RUN)
    assert (found.step, found.loss) == (20, 3.0)
    assert found.seconds_left == pytest.approx(80.0)


def test_a_long_file_is_read_from_its_end(tmp_path: Path) -> None:
    write_metrics(Project(tmp_path), *({"step": step, "loss": 1.0, "pad": "x" * 200} for step in range(2000)))
    assert read_progress(Project(tmp_path), RUN).step == 1999


MANIFEST: dict[str, Any] = {
    "name": "n", "point": {"a": 1}, "estimate": {"rate": {"hourly": 2.0}, "units_per_run": 4},
}  # fmt: skip


LOST = {"state": "NODE_FAILED", "seconds": 30.0, "failure": {"kind": "lost", "message": "node n3 did not answer"}}
BEFORE = [(1, LOST)]


def view(outcome: dict[str, Any], live: LiveState | None) -> RunView:
    return render_view(RUN, MANIFEST, outcome, live=live, before=BEFORE, progress=Progress())


def test_an_ended_run_is_what_its_outcome_says_whatever_the_backend_says() -> None:
    shown = view({"state": "FAILED", "seconds": 3600.0, "attempts": 2}, LiveState(JobState.RUNNING))
    assert (shown.state, shown.attempt) == (JobState.FAILED, 2)
    assert shown.cost == pytest.approx(8.0)


def test_a_running_run_counts_the_seconds_of_all_its_attempts() -> None:
    shown = view({}, LiveState(JobState.RUNNING, attempt=2, seconds=60.0))
    assert shown.seconds == pytest.approx(90.0)


def test_a_run_that_goes_on_tells_why_its_earlier_attempts_ended() -> None:
    shown = view({}, LiveState(JobState.RUNNING, attempt=2, seconds=60.0))
    assert shown.earlier == {1: "NODE_FAILED: node n3 did not answer"}
    assert view({"state": "FAILED", "seconds": 3600.0, "attempts": 2}, None).earlier == {}


def test_a_record_of_an_attempt_that_cannot_be_read_hides_nothing() -> None:
    shown = render_view(
        RUN, MANIFEST, {}, live=LiveState(JobState.RUNNING), before=[(1, {}), (2, {"failure": 3})], progress=Progress()
    )
    assert shown.earlier == {1: "UNKNOWN", 2: "UNKNOWN"}


def test_a_run_nobody_knows_is_unknown_and_not_failed() -> None:
    shown = view({}, None)
    assert shown.state is JobState.UNKNOWN
    assert shown.reason == "planned, not submitted, or the backend has lost it"


ENDED: dict[str, Any] = {"state": "FAILED", "seconds": 1.0, "attempts": 1}


@pytest.mark.parametrize(
    "outcome",
    [
        {"state": "LATER"}, {"state": "FAILED", "seconds": "x"}, {"failure": 1}, {**ENDED, "attempts": float("inf")},
        {**ENDED, "state": "RUNNING"}, {**ENDED, "metrics": [1]},
        {**ENDED, "failure": {"kind": "crash", "message": "m", "evidence": 5}},
    ],
)  # fmt: skip
def test_an_outcome_that_is_none_of_ours_is_said_and_breaks_no_view(outcome: dict[str, Any]) -> None:
    shown = view(outcome, None)
    assert shown.state is JobState.UNKNOWN
    assert "its outcome is damaged" in str(shown.reason)


@pytest.mark.parametrize(
    "changes",
    [
        {"estimate": 5}, {"estimate": {"rate": 5}}, {"estimate": {"rate": {"hourly": "x"}, "units_per_run": 4}},
        {"estimate": {"rate": {"hourly": 10**400}, "units_per_run": 4}}, {"point": 5}, {"point": "x"}, {"index": "x"},
        {"estimate": {"rate": {"hourly": 1.0}, "units_per_run": float("inf")}},
    ],
)  # fmt: skip
@pytest.mark.parametrize("outcome", [{}, {"state": "SUCCEEDED", "seconds": 1.0, "attempts": 1}])
def test_a_manifest_that_is_none_of_ours_is_said_and_breaks_no_view(
    changes: dict[str, Any], outcome: dict[str, Any]
) -> None:
    live = None if outcome else LiveState(JobState.RUNNING, reason="waits")
    shown = render_view(RUN, MANIFEST | changes, outcome, live=live, progress=Progress())
    assert shown.state is (JobState.SUCCEEDED if outcome else JobState.RUNNING)
    assert (shown.name, shown.cost, shown.index, shown.point) == ("n", None, None, {})
    assert "its manifest is damaged" in str(shown.reason)


@pytest.mark.parametrize("seconds", ["x", None, [1], 10**400])
def test_an_attempt_that_is_none_of_ours_breaks_no_view(tmp_path: Path, seconds: object) -> None:
    project = Project(tmp_path)
    project.manifests.mkdir(parents=True)
    project.manifest(RUN).write_text(json.dumps(MANIFEST))
    project.attempts(RUN).mkdir(parents=True)
    for number, value in ((1, seconds), (2, 7.0)):
        project.attempt(RUN, number).write_text(json.dumps({"seconds": value}))
    (run,) = Watcher(project, RUN, [RUN], lambda _: {}).look().runs
    assert run.seconds == 7.0


def test_an_unknown_price_is_an_unknown_cost() -> None:
    manifest = {"estimate": {"rate": {"hourly": None}, "units_per_run": 4}}
    assert cost_so_far(manifest, 100.0) is None
    runs = (RunView(RUN, "n", JobState.SUCCEEDED, cost=None), RunView(RUN, "n", JobState.SUCCEEDED, cost=1.5))
    whole = SubmissionView("s", runs)
    assert (whole.known_cost, whole.unknown_costs) == (1.5, 1)


def test_what_has_ended_is_not_asked_about_again(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.manifests.mkdir(parents=True)
    project.manifest(RUN).write_text(json.dumps(MANIFEST))
    asked: list[tuple[str, ...]] = []

    def live(run_ids: Any) -> dict[str, LiveState]:
        asked.append(tuple(run_ids))
        return {RUN: LiveState(JobState.RUNNING)}

    watcher = Watcher(project, RUN, [RUN], live)
    assert not watcher.look().is_final
    project.outcome(RUN).write_text(json.dumps({"state": "SUCCEEDED", "seconds": 1.0, "attempts": 1}))
    assert watcher.look().is_final
    assert watcher.look().counts == {"SUCCEEDED": 1}
    assert asked == [(RUN,)]


def test_a_job_inherits_what_programs_need_and_no_credential() -> None:
    given = {
        "PATH": "/bin", "HOME": "/h", "HF_TOKEN": "hf_secret", "HF_HOME": "/cache", "AWS_SECRET_ACCESS_KEY": "x",
        "NEXA_STATE_DIR": "/s", "RANDOM_THING": "1", "WANDB_API_KEY": "k", "LC_ALL": "C",
    }  # fmt: skip
    assert job_environment(given) == {"HF_HOME": "/cache", "HOME": "/h", "LC_ALL": "C", "PATH": "/bin"}


@pytest.mark.parametrize(
    ("text", "driver", "memory"),
    [
        ("NVIDIA H200, 143771, GPU-1, 570.1\n", "570.1", [140.4]),
        ("NVIDIA H200, [N/A], GPU-1, 570.1\n", "570.1", [None]),
        ("", None, []),
        ("No devices were found\n", None, []),
    ],
)
def test_odd_driver_replies_leave_fields_unknown(text: str, driver: str | None, memory: list[float | None]) -> None:
    found, gpus = parse_smi(text)
    assert found == driver
    assert [gpu.memory_gib for gpu in gpus] == memory
