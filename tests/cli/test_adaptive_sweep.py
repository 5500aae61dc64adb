"""Sweeps whose runs are trials of a study: asked once, told once, pruned, killed, resumed."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nexa_infra.operations.backends import state_dir
from nexa_infra.scheduling.local_queue import LocalQueue
from tests.cli.cli_process import Cli
from tests.scheduling.adaptive import trials as trials_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

START = """\
import json, os, pathlib, signal, sys
config = json.loads(pathlib.Path(os.environ["NEXA_RUN_CONFIG"]).read_text())
x, y = config["params"]["x"], config["params"]["y"]
run, attempt = pathlib.Path(os.environ["NEXA_RUN_DIR"]), os.environ["NEXA_ATTEMPT"]
(run / f"seen-{attempt}.json").write_text(json.dumps([x, y]))
here = pathlib.Path(os.environ["NEXA_PROJECT_DIR"])
"""
END = """
(run / "attempts" / f"{attempt}.result.json").write_text(json.dumps({"metrics": {"eval_loss": (x - 3) ** 2 + y}}))
"""
SWEEP = f"""\
name: quadratic
run:
  command: [{sys.executable}, work.py]
  resources: {{memory: 64MiB, walltime: 2m}}
  max_retries: 0
search: tpe
trials: 12
axes:
  params.x: {{uniform: [-10, 10]}}
  params.y: {{int: [0, 5]}}
"""
DEADLINE_S = 120.0


def write(cli: Cli, between: str, *, sweep: str = SWEEP) -> None:
    cli.write("work.py", START + between + END)
    cli.write("sweep.yaml", sweep)


def read_trials(cli: Cli, sweep_id: str) -> list[FrozenTrial]:
    return trials_of.read_trials(cli.project.root / "storage" / "shared" / "active_jobs" / sweep_id / "study.journal")


def read_point(cli: Cli, run_id: str) -> dict[str, Any]:
    return dict(json.loads(cli.project.run_dir(run_id).point.read_text()))


def kill_entries() -> None:
    with LocalQueue(state_dir(os.environ).queue) as queue:
        for job in queue.list_running():
            assert job.pid is not None
            os.kill(job.pid, signal.SIGKILL)


def wait_for(path: Path) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not path.exists():
        assert time.monotonic() < deadline_s, f"not within {DEADLINE_S:g} s: {path}"
        time.sleep(0.02)


def test_every_run_is_one_trial_and_the_study_knows_what_each_came_to(cli: Cli) -> None:
    write(cli, "")
    view = json.loads(cli.ok("sweep", "sweep.yaml", "--json", "--wait"))
    assert view["counts"] == {"SUCCEEDED": 12}
    trials = {trial.user_attrs["run_id"]: trial for trial in read_trials(cli, view["submission"])}
    assert sorted(trial.number for trial in trials.values()) == list(range(12))
    for run in view["runs"]:
        trial, record = trials[run["run_id"]], read_point(cli, run["run_id"])
        seen = json.loads((cli.project.run(run["run_id"]) / "seen-1.json").read_text())
        assert run["point"] == record["point"] == trial.params == {"params.x": seen[0], "params.y": seen[1]}
        assert (record["trial"], trial.state.name) == (trial.number, "COMPLETE")
        assert trial.value == pytest.approx((seen[0] - 3) ** 2 + seen[1])
    assert len({str(trial.params) for trial in trials.values()}) == 12  # two at once are not sent to one place
    board = cli.json("leaderboard", "last", "--no-write")["rows"]
    assert [row["value"] for row in board] == sorted(trial.value or 0.0 for trial in trials.values())
    best = cli.json("show", board[0]["run_id"])["manifest"]
    assert best["point"] == trials[board[0]["run_id"]].params
    assert best["config"]["params"] == {key.partition(".")[2]: value for key, value in best["point"].items()}
    near = cli.json("runs", "--where", "point.params.y<3", "--where", f"sweep={view['submission']}")
    assert {row["run_id"] for row in near} == {each for each, trial in trials.items() if trial.params["params.y"] < 3}


def test_another_attempt_of_a_run_has_its_point_again(cli: Cli) -> None:
    write(cli, "if attempt == '1': sys.exit(3)", sweep=SWEEP.replace("max_retries: 0", "max_retries: 1"))
    view = json.loads(cli.ok("sweep", "sweep.yaml", "--trials", "1", "--json", "--wait"))
    run_id = view["runs"][0]["run_id"]
    first, second = (json.loads((cli.project.run(run_id) / f"seen-{n}.json").read_text()) for n in (1, 2))
    assert first == second
    assert [trial.state.name for trial in read_trials(cli, view["submission"])] == ["COMPLETE"]


def test_a_trial_whose_job_was_killed_is_told_and_its_member_gets_a_new_one(cli: Cli) -> None:
    write(cli, "if not (here / 'mended').exists(): signal.pause()")
    launched = cli.json("sweep", "sweep.yaml", "--trials", "1")
    sweep_id = launched["submission"]
    (run_id,) = (run["run_id"] for run in cli.json("status", sweep_id)["runs"])
    wait_for(cli.project.run(run_id) / "seen-1.json")
    kill_entries()
    wait_for(cli.project.outcome(run_id))
    assert cli.json("status", sweep_id)["counts"] == {"FAILED": 1}
    assert [trial.state.name for trial in read_trials(cli, sweep_id)] == ["FAIL"]
    cli.write("mended", "")
    # The whole path: what a program is given is what its lock beside the journal names.
    assert f"optuna-dashboard {launched['study']} " in cli.ok("sweep", "--resume", sweep_id)
    assert Path(launched["study"]).is_absolute()
    (run,) = cli.json("status", sweep_id)["runs"]
    assert run["run_id"] != run_id
    failed, mended = read_trials(cli, sweep_id)
    assert (failed.state.name, mended.state.name) == ("FAIL", "COMPLETE")
    assert failed.params != mended.params == run["point"]
    assert [trial.user_attrs["index"] for trial in (failed, mended)] == [0, 0]


def test_a_job_killed_between_the_study_and_its_point_finds_its_trial_again(cli: Cli) -> None:
    write(cli, "if attempt == '1': signal.pause()", sweep=SWEEP.replace("max_retries: 0", "max_retries: 1"))
    sweep_id = cli.json("sweep", "sweep.yaml", "--trials", "1")["submission"]
    (run_id,) = (run["run_id"] for run in cli.json("status", sweep_id)["runs"])
    wait_for(cli.project.run(run_id) / "seen-1.json")
    kill_entries()
    cli.project.run_dir(run_id).point.unlink()  # as it would be, had it been killed a moment earlier
    wait_for(cli.project.outcome(run_id))
    (trial,) = read_trials(cli, sweep_id)
    assert read_point(cli, run_id)["point"] == trial.params
    assert json.loads((cli.project.run(run_id) / "seen-2.json").read_text()) == list(trial.params.values())


def test_a_trial_that_falls_behind_is_ended_and_nothing_went_wrong(cli: Cli) -> None:
    metrics = """
with (run / "metrics.jsonl").open("a") as stream:
    for step in range(1, 5):
        stream.write(json.dumps({"step": step, "loss": x / step}) + "\\n")
if x > 1:
    signal.pause()
"""
    grid = "search: grid\nmax_parallel: 1\nprune_after_steps: 2\n"
    axes = "axes:\n  params.x: {values: [1, 2, 3]}\n  params.y: {values: [0]}\n"
    write(cli, metrics, sweep=SWEEP[: SWEEP.index("search:")] + grid + axes)
    view = json.loads(cli.ok("sweep", "sweep.yaml", "--pruner", "asha", "--json", "--wait"))
    assert view["counts"] == {"PRUNED": 2, "SUCCEEDED": 1}
    assert [(run["state"], run["pruned_at_step"]) for run in view["runs"]] == [
        ("SUCCEEDED", None), ("SUCCEEDED", 2), ("SUCCEEDED", 2),
    ]  # fmt: skip
    trials = read_trials(cli, view["submission"])
    assert [trial.state.name for trial in trials] == ["COMPLETE", "PRUNED", "PRUNED"]
    assert trials[0].intermediate_values == {1: 1.0, 2: 0.5, 3: pytest.approx(1 / 3), 4: 0.25}
    assert [trial.params["params.x"] for trial in trials] == [1, 2, 3]
    rows = cli.json("leaderboard", "last", "--no-write")["rows"]
    assert [(row["rank"], row["pruned_at_step"]) for row in rows] == [(1, None), (None, 2), (None, 2)]
    assert "pruned at step 2" in cli.ok("show", view["runs"][1]["run_id"])
    again = cli("sweep", "--resume", view["submission"])
    assert (again.returncode, "nothing to submit" in again.stderr) == (0, True)


def test_an_axis_that_decides_how_a_job_is_planned_is_refused(cli: Cli) -> None:
    write(cli, "", sweep=SWEEP + "  resources.cpus: {values: [1, 2]}\n")
    done = cli("sweep", "sweep.yaml", "--dry-run")
    assert done.returncode == 2
    assert "sweep.yaml:11: axes.resources.cpus: it decides how the job is planned" in done.stderr
    assert not cli.project.runs.exists()
