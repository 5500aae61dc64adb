"""What a site file says of Slurm holds in the jobs themselves: packed rows, the interpreter, the warning."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from nexa_contracts.states import JobState
from nexa_infra.operations.context import Context
from nexa_infra.operations.launch import launch_slurm_sweep, launch_training_job
from nexa_infra.operations.live import live_states, member_ids, read_logs
from nexa_infra.operations.status import Watcher
from nexa_infra.process import SystemRunner
from nexa_infra.storage.manifests import read_attempts, read_outcome, read_run_manifest
from tests.cluster.slurm_cluster import SlurmCluster
from tests.cluster.sweep_site import SITE, make_environment, make_project, wait_for, write_sweep

WAITS_FOR_ITS_TURN = """
import json, os, signal, sys, time
x = json.load(open(os.environ['NEXA_RUN_CONFIG']))['params']['x']
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
open(os.environ['NEXA_RUN_DIR'] + '/begun', 'w').close()
while x == 1:
    time.sleep(0.1)
print('x is', x)
"""
LEAVES_EARLY = """
import os, signal, sys, time
run, attempt = os.environ['NEXA_RUN_DIR'], os.environ['NEXA_ATTEMPT']
began = time.monotonic()
def leave(*_):
    open(run + '/left-after', 'w').write(str(time.monotonic() - began))
    sys.exit(75)
signal.signal(signal.SIGTERM, leave)
signal.signal(signal.SIGUSR1, lambda *_: open(run + '/heard', 'w').close())
open(run + '/begun-' + attempt, 'w').close()
while attempt == '1':
    time.sleep(0.1)
"""
INTERPRETER = '#!/bin/sh\nprintf \'%s\\n\' "$*" >> "{log}"\nexec "{python}" "$@"\n'


def states(context: Context, sweep_id: str) -> list[JobState]:
    ask = live_states(context.project, environment=context.environment, clock=context.clock)
    return [
        run.state for run in Watcher(context.project, sweep_id, member_ids(context.project, sweep_id), ask).look().runs
    ]


def wait_for_end(context: Context, name: str) -> list[JobState]:
    wait_for(lambda: all(state.is_final for state in states(context, name)), what=f"end of {name}")
    return states(context, name)


def test_a_running_row_of_a_packed_task_is_cancelled_alone(cluster: SlurmCluster, tmp_path: Path) -> None:
    context = make_project(cluster, tmp_path, site=SITE + "  rows_per_task: 3\n")
    path = write_sweep(tmp_path, WAITS_FOR_ITS_TURN, {"x": [1, 2, 3]})
    launched = launch_slurm_sweep(path, submit=True, context=context)
    first, second, third = launched.run_ids
    wait_for((context.project.run(first) / "begun").exists, what="the first row")
    assert states(context, launched.submission) == [JobState.RUNNING, JobState.PENDING, JobState.PENDING]
    argv = [sys.executable, "-m", "nexa_cli.main", "cancel", third, first]
    done = SystemRunner().run(argv, timeout_s=120, cwd=tmp_path, env=make_environment(cluster))
    assert done.require_success().stdout.splitlines() == [f"{third}: CANCELLED", f"{first}: CANCELLED"]
    assert wait_for_end(context, launched.submission) == [
        JobState.CANCELLED,
        JobState.SUCCEEDED,
        JobState.CANCELLED,
    ]
    assert list(read_logs(context.project, second, follow=False)) == ["x is 2"]
    (attempt,) = read_attempts(context.project, first)
    assert (attempt.state, attempt.exit_code) == (JobState.CANCELLED, 75)
    assert read_outcome(context.project, third).attempts == 0
    names = cluster.run("squeue", "-h", "-r", "-t", "all", "-o", "%j %T").splitlines()
    assert [line for line in names if line.startswith(launched.submission)] == [f"{launched.submission}.c0 FAILED"]


def test_our_own_modules_run_in_the_clusters_interpreter(cluster: SlurmCluster, tmp_path: Path) -> None:
    log, interpreter = tmp_path / "interpreter.log", tmp_path / "bin" / "python"
    interpreter.parent.mkdir()
    interpreter.write_text(INTERPRETER.format(log=log, python=sys.executable))
    interpreter.chmod(0o755)
    context = make_project(cluster, tmp_path, site=SITE + f"  python: {interpreter}\n")
    path = tmp_path / "run.yaml"
    path.write_text("command: [hostname]\nresources: {nodes: 2, memory: 64MiB, walltime: 5m}\n")
    launched = launch_training_job(path, backend="slurm", context=context)
    assert wait_for_end(context, launched.submission) == [JobState.SUCCEEDED]
    started = [line.split() for line in log.read_text().splitlines()]
    modules = [words[words.index("-m") + 1].rpartition(".")[2] for words in started]
    # The job entry and the step entry on the first node, and a node entry on each.
    assert sorted(modules) == ["node_entry", "node_entry", "slurm_entry", "step_entry"]
    assert read_run_manifest(context.project, launched.submission).command[0] == str(interpreter)


def test_the_sites_signal_comes_before_the_limit_by_its_lead(cluster: SlurmCluster, tmp_path: Path) -> None:
    # Slurm looks at its limits twice a minute: the warning comes 10 to 40 s after the start, of two minutes.
    context = make_project(cluster, tmp_path, site="backend: slurm\nslurm:\n  signal: USR2\n  signal_lead: 110s\n")
    path = write_sweep(tmp_path, LEAVES_EARLY, {"x": [1]}, max_time_outs=1)
    path.write_text(path.read_text().replace("walltime: 10m", "walltime: 2m"))
    launched = launch_slurm_sweep(path, submit=True, context=context)
    (run_id,) = launched.run_ids
    run = context.project.run(run_id)
    wait_for((run / "begun-1").exists, what="the first attempt")
    job_id = json.loads((context.project.run(launched.submission) / "slurm" / "chunk-0.json").read_text())["job_id"]
    cluster.run("scancel", "--batch", "--signal=USR1", f"{job_id}_0")
    wait_for((run / "heard").exists, what="the signal that is the program's own")
    assert not (run / "left-after").exists()
    wait_for((run / "begun-2").exists, what="another start of the job")
    assert wait_for_end(context, launched.submission) == [JobState.SUCCEEDED]
    assert [attempt.state for attempt in read_attempts(context.project, run_id)] == [
        JobState.TIMED_OUT,
        JobState.SUCCEEDED,
    ]
    assert float((run / "left-after").read_text()) < 100
