"""Adaptive sweeps on a real cluster: each row is one trial for good, whatever becomes of its jobs and their nodes."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexa_contracts.states import JobState
from nexa_infra.operations.context import Context
from nexa_infra.operations.launch import launch_sweep
from nexa_infra.operations.live import cancel_runs, live_states, member_ids
from nexa_infra.operations.reconcile import settle_costs
from nexa_infra.operations.status import SubmissionView, Watcher
from nexa_infra.process import SystemRunner
from nexa_infra.storage.manifests import read_attempts, read_outcome
from tests.cluster.slurm_cluster import SlurmCluster
from tests.cluster.sweep_site import make_environment, make_project, wait_for
from tests.scheduling.adaptive.trials import read_trials

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

START = """
import json, os, pathlib, signal, sys, time
run, run_id, attempt = pathlib.Path(os.environ['NEXA_RUN_DIR']), os.environ['NEXA_RUN_ID'], os.environ['NEXA_ATTEMPT']
x = json.loads(pathlib.Path(os.environ['NEXA_RUN_CONFIG']).read_text())['params']['x']
(run / ('seen-' + attempt)).write_text(json.dumps(x))
"""
END = """
(run / 'attempts' / (attempt + '.result.json')).write_text(json.dumps(dict(metrics=dict(eval_loss=(x - 3) ** 2))))
"""
FALLS_BEHIND = """
rank = int(run_id[-3:])
first = run.parent / 'manifests' / ('outcome_' + run_id[:-3] + '000.json')
while rank and not first.exists():
    time.sleep(0.1)
with (run / 'metrics.jsonl').open('a') as metrics:
    for step in (1, 2, 3):
        metrics.write(json.dumps(dict(step=step, loss=rank)) + chr(10))
if rank:
    signal.pause()
"""
"""The first one is the best, and only those that are pruned end besides."""
LEAVES_ONCE = """
if attempt == '1':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    while True:
        signal.pause()
"""
WAITS = """
if not pathlib.Path(os.environ['NEXA_PROJECT_DIR'], 'mended').exists():
    signal.pause()
"""


def write_search(
    root: Path, between: str, *more: str, search: str = "tpe", trials: int = 2, max_retries: int = 1
) -> Path:
    lines = [
        "name: search",
        "run:",
        f"  command: [python3, -I, -S, -c, {json.dumps(START + between + END)}]",
        "  resources: {memory: 64MiB, walltime: 10m}",
        f"  max_retries: {max_retries}",
        "  max_time_outs: 1",
        f"search: {search}",
        f"trials: {trials}",
        "axes:",
        "  params.x: {uniform: [-10, 10]}",
        *more,
    ]
    path = root / "search.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def submit(context: Context, between: str, *, max_retries: int = 1) -> tuple[str, tuple[str, ...]]:
    """Return the id of a sweep and its two runs, in order."""
    launched = launch_sweep(write_search(context.project.root, between, max_retries=max_retries), context=context)
    return launched.submission, launched.run_ids


def look(context: Context, sweep_id: str) -> SubmissionView:
    ask = live_states(context.project, environment=context.environment, clock=context.clock)
    return Watcher(context.project, sweep_id, member_ids(context.project, sweep_id), ask).look()


def wait_for_end(context: Context, sweep_id: str) -> SubmissionView:
    wait_for(lambda: look(context, sweep_id).is_final, what=f"end of {sweep_id}")
    view = look(context, sweep_id)
    settle_costs(context, [run.run_id for run in view.runs])
    return view


def trials_of(context: Context, sweep_id: str) -> dict[str, FrozenTrial]:
    trials = read_trials(context.tiers.study(sweep_id))
    found = {str(trial.user_attrs["run_id"]): trial for trial in trials}
    assert len(found) == len(trials)  # no run is two trials
    return found


def seen(context: Context, run_id: str, attempt: int = 1) -> Any:
    return json.loads((context.project.run(run_id) / f"seen-{attempt}").read_text())


def wait_for_program(context: Context, run_id: str, attempt: int = 1) -> None:
    path = context.project.run(run_id) / f"seen-{attempt}"
    wait_for(lambda: path.exists() and path.stat().st_size > 0, what=f"attempt {attempt} of {run_id}")


def test_every_row_is_one_trial_and_those_that_fall_behind_are_ended(cluster: SlurmCluster, tmp_path: Path) -> None:
    context = make_project(cluster, tmp_path)
    more = ("pruner: median", "prune_after_steps: 1")
    path = write_search(tmp_path, FALLS_BEHIND, *more, search="random", trials=99)
    words = ["--search", "tpe", "--trials", "6", "--pruner", "asha", "--backend", "slurm", "--submit", "--json"]
    argv = [sys.executable, "-m", "nexa_cli.main", "sweep", path.name, *words]
    done = SystemRunner().run(argv, timeout_s=120, cwd=tmp_path, env=make_environment(cluster))
    sweep_id = json.loads(done.require_success().stdout)["submission"]
    view = wait_for_end(context, sweep_id)
    assert view.counts == {"SUCCEEDED": 1, "PRUNED": 5}
    trials = trials_of(context, sweep_id)
    assert sorted(trial.number for trial in trials.values()) == list(range(6))
    for run in view.runs:
        trial, outcome = trials[run.run_id], read_outcome(context.project, run.run_id)
        assert trial.params == run.point == {"params.x": seen(context, run.run_id)}
        assert (outcome.state, outcome.attempts) == (JobState.SUCCEEDED, 1)
        if run.index == 0:
            assert (trial.state.name, trial.value) == ("COMPLETE", (trial.params["params.x"] - 3) ** 2)
        else:
            assert (trial.state.name, trial.last_step, outcome.pruned_at_step) == ("PRUNED", 1, 1)
            assert run.cost is not None
    assert len({str(trial.params) for trial in trials.values()}) == 6


def test_a_row_that_is_started_again_is_the_same_trial_with_the_same_point(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    context = make_project(cluster, tmp_path)
    sweep_id, (warned, unlucky) = submit(context, LEAVES_ONCE)
    for run_id in (warned, unlucky):
        wait_for_program(context, run_id)
    (job_id, _), (_, node) = sorted(line.split() for line in cluster.run("squeue", "-hro", "%i %N").splitlines())
    cluster.run("scancel", "--batch", "--signal=USR1", job_id)
    wait_for(lambda: len(read_attempts(context.project, warned)) == 1, what="the record of its first attempt")
    cluster.kill_node(node)
    view = wait_for_end(context, sweep_id)
    assert view.counts == {"SUCCEEDED": 2}
    trials = trials_of(context, sweep_id)
    states = {run_id: [each.state for each in read_attempts(context.project, run_id)] for run_id in (warned, unlucky)}
    assert states == {
        warned: [JobState.TIMED_OUT, JobState.SUCCEEDED],
        unlucky: [JobState.NODE_FAILED, JobState.SUCCEEDED],
    }
    for run_id in (warned, unlucky):
        assert seen(context, run_id, 1) == seen(context, run_id, 2) == trials[run_id].params["params.x"]
        assert trials[run_id].state.name == "COMPLETE"


def test_a_search_is_gone_on_with_from_another_machine(cluster: SlurmCluster, tmp_path: Path) -> None:
    context = make_project(cluster, tmp_path)
    sweep_id, (killed, waiting) = submit(context, WAITS, max_retries=0)
    for run_id in (killed, waiting):
        wait_for_program(context, run_id)
    end_silently(tmp_path, killed)
    wait_for(lambda: look(context, sweep_id).counts.get("FAILED") == 1, what="the end of the one that was killed")
    (tmp_path / "mended").touch()
    # On a node, which has another name, and of whose processes this machine's are none.
    argv = ["env", f"HOME={tmp_path}", sys.executable, "-m", "nexa_cli.main", "sweep", "--resume", sweep_id]
    said = cluster.run("srun", "--nodelist=n2", "--nodes=1", f"--chdir={tmp_path}", *argv)
    assert f"{sweep_id}: 1 submitted to slurm" in said
    cancel_runs(context.project, [waiting], environment=context.environment)
    view = wait_for_end(context, sweep_id)
    trials = trials_of(context, sweep_id)
    (again,) = (run.run_id for run in view.runs if run.index == 0)
    assert {run_id: trial.state.name for run_id, trial in trials.items()} == {
        killed: "FAIL",
        waiting: "FAIL",
        again: "COMPLETE",
    }
    assert trials[again].params == {"params.x": seen(context, again)} != trials[killed].params
    assert trials[again].user_attrs["index"] == trials[killed].user_attrs["index"] == 0


def end_silently(root: Path, run_id: str) -> None:
    """Kill the job entry of a run, as a node that runs out of memory does."""
    for folder in Path("/proc").iterdir():
        try:
            told = (folder / "environ").read_bytes().split(b"\0")
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        task = f"SLURM_ARRAY_TASK_ID={int(run_id[-3:])}".encode()
        if b"slurm_entry" in words and str(root).encode() in words and task in told:
            os.kill(int(folder.name), signal.SIGKILL)
