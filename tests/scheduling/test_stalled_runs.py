"""Programs that live and make no step any more, with the real job entry."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from nexa_contracts.run import AttemptRecord
from nexa_contracts.states import JobState
from nexa_infra.process import SystemRunner
from nexa_infra.scheduling.backend import render_spec
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import read_attempts, read_outcome
from nexa_infra.testing.backend import make_entry, make_request

ENTRY = (sys.executable, "-P", "-m", "nexa_infra.scheduling.job_entry")
STEPS = """
import faulthandler, json, os, signal, subprocess, sys, threading, time
faulthandler.register(signal.SIGUSR2, all_threads=True)

def step(number, **more):
    with open(os.environ['NEXA_RUN_DIR'] + '/metrics.jsonl', 'a') as stream:
        stream.write(json.dumps({'attempt': int(os.environ['NEXA_ATTEMPT']), 'step': number, **more}) + chr(10))

def beat():
    while True:
        with open(os.environ['NEXA_RUN_DIR'] + '/heartbeat.json', 'w') as stream:
            stream.write(json.dumps({'attempt': int(os.environ['NEXA_ATTEMPT']), 'step': 2, 'time': time.time()}))
        time.sleep(0.05)

def wait_for_the_others():
    threading.Event().wait()
"""


def run(root: Path, code: str, *, times: int = 1, **changes: Any) -> list[AttemptRecord]:
    request = make_request(root, STEPS + code, **changes)
    spec = Project(root).spec(request.submission)
    spec.parent.mkdir(parents=True)
    spec.write_text(render_spec(request))
    for _ in range(times):
        SystemRunner().run([*ENTRY, str(spec), "--index", "0"], timeout_s=120)
    return list(read_attempts(Project(root), make_entry(root, "").run_id))


def test_a_program_that_hangs_is_ended_and_its_stack_is_the_evidence(tmp_path: Path) -> None:
    code = "threading.Thread(target=beat, daemon=True).start(); step(1); step(2); wait_for_the_others()"
    (attempt,) = run(tmp_path, code, stall_s=1.0)
    assert (attempt.state, attempt.step) == (JobState.FAILED, 2)
    assert attempt.failure is not None
    assert attempt.failure.kind == "stalled"
    assert attempt.failure.message == "no step for 1.0s after step 2; ended"
    assert any("wait_for_the_others" in line for line in attempt.failure.evidence)
    log = Project(tmp_path).log(attempt.run_id, 1).read_text()
    assert "wait_for_the_others" in log
    assert "nexa: process " in log


def test_all_of_its_processes_end(tmp_path: Path) -> None:
    code = "signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    code += "child = subprocess.Popen(['sleep', '600']); print(child.pid, flush=True); step(1); wait_for_the_others()"
    (attempt,) = run(tmp_path, code, stall_s=1.0)
    pid = Project(tmp_path).log(attempt.run_id, 1).read_text().split()[0]
    assert pid.isdecimal()
    assert not Path("/proc", pid, "fd").exists()


def test_a_stall_is_a_crash_and_tried_again(tmp_path: Path) -> None:
    code = "step(1)\nif os.environ['NEXA_ATTEMPT'] == '1': wait_for_the_others()"
    attempts = run(tmp_path, code, times=2, stall_s=1.0, max_retries=1)
    assert [each.state for each in attempts] == [JobState.FAILED, JobState.SUCCEEDED]
    assert read_outcome(Project(tmp_path), attempts[0].run_id).state is JobState.SUCCEEDED


@pytest.mark.parametrize("code", ["for number in range(12): step(number); time.sleep(0.25)", "time.sleep(2)"])
def test_a_program_that_makes_steps_or_is_not_watched_may_take_its_time(tmp_path: Path, code: str) -> None:
    (attempt,) = run(tmp_path, code, stall_s=2.0 if "step" in code else None)
    assert attempt.state is JobState.SUCCEEDED
