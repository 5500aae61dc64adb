"""What a program said in its metrics reaches the outcome, however it ended and whatever else it wrote there."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from nexa_contracts.run import RunOutcome
from nexa_contracts.states import JobState
from nexa_infra.process import SystemRunner
from nexa_infra.scheduling.backend import render_spec
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import read_outcome
from nexa_infra.testing.backend import make_entry, make_request

SAYS = (
    "import json, os, sys, time\n"
    "run, attempt = os.environ['NEXA_RUN_DIR'], int(os.environ['NEXA_ATTEMPT'])\n"
    "metrics = open(run + '/metrics.jsonl', 'a')\n"
    "def say(**values): print(json.dumps(values), file=metrics, flush=True)\n"
    "def conclude(**values): json.dump(values, open(f'{run}/attempts/{attempt}.result.json', 'w'))\n"
)


def run_to_end(root: Path, code: str, *, attempts: int = 1) -> RunOutcome:
    request = make_request(root, SAYS + code, max_retries=attempts - 1)
    spec = Project(root).spec(request.submission)
    spec.parent.mkdir(parents=True, exist_ok=True)
    spec.write_text(render_spec(request))
    argv = [sys.executable, "-P", "-m", "nexa_infra.scheduling.job_entry", str(spec), "--index", "0"]
    for _ in range(attempts):
        SystemRunner().run(argv, timeout_s=120, env=dict(os.environ))
    return read_outcome(Project(root), make_entry(root, "").run_id)


@pytest.mark.parametrize(
    ("end", "state"),
    [("sys.exit(3)", JobState.FAILED), ("os.abort()", JobState.FAILED), ("", JobState.SUCCEEDED),
     ("sys.exit(65)", JobState.FAILED)],
)  # fmt: skip
def test_without_a_result_the_last_values_of_the_metrics_are_the_outcomes(
    tmp_path: Path, end: str, state: JobState
) -> None:
    code = (
        "say(time='2026-01-02T00:00:00Z', attempt=1, step=10, loss=4.0, tokens=100, learning_rate=0.1, epoch=0.5)\n"
        "say(step=10, eval_loss=3.5)\nsay(step=20, loss=3.0, tokens=200, accuracy=1)\n" + end
    )
    outcome = run_to_end(tmp_path, code)
    assert outcome.state is state
    assert (outcome.steps, outcome.tokens) == (20, 200)
    assert outcome.metrics == {"loss": 3.0, "eval_loss": 3.5, "accuracy": 1.0}


def test_what_the_program_concludes_goes_before_what_it_said(tmp_path: Path) -> None:
    code = "say(attempt=1, step=9, loss=9.0, eval_loss=2.0)\nconclude(steps=10, metrics={'eval_loss': 1.0})\n"
    for end in ("sys.exit(3)", ""):
        outcome = run_to_end(tmp_path / (end or "succeeds"), code + end)
        assert (outcome.steps, outcome.metrics) == (10, {"loss": 9.0, "eval_loss": 1.0})


def test_a_result_that_holds_no_number_hides_none(tmp_path: Path) -> None:
    code = (
        "say(attempt=1, step=9, loss=9.0)\nconclude(failure={'kind': 'storage', 'message': 'disk full'})\nsys.exit(1)"
    )
    outcome = run_to_end(tmp_path, code)
    assert (outcome.steps, outcome.metrics) == (9, {"loss": 9.0})
    assert outcome.failure is not None
    assert outcome.failure.message == "disk full"


def test_of_a_later_attempt_without_a_result_what_it_said_is_added(tmp_path: Path) -> None:
    code = (
        "say(attempt=attempt, step=10 * attempt, loss=5.0 - attempt)\n"
        "if attempt == 1: conclude(steps=10, tokens=70, metrics={'loss': 4.0, 'eval_loss': 4.5})\n"
        "sys.exit(3)"
    )
    outcome = run_to_end(tmp_path, code, attempts=2)
    assert (outcome.attempts, outcome.steps, outcome.tokens) == (2, 20, 70)
    assert outcome.metrics == {"loss": 3.0, "eval_loss": 4.5}


def test_a_later_attempt_that_said_nothing_changes_nothing(tmp_path: Path) -> None:
    code = (
        "if attempt == 2: sys.exit(3)\n"
        "say(attempt=1, step=10, loss=4.0, tokens_per_s=1.0)\n"
        "conclude(steps=10, metrics={'loss': 3.9, 'tokens_per_s': 2.0})\nsys.exit(3)"
    )
    assert run_to_end(tmp_path, code, attempts=2).metrics == {"loss": 3.9, "tokens_per_s": 2.0}


ODD: list[Any] = [
    "os.unlink(run + '/metrics.jsonl'); os.mkfifo(run + '/metrics.jsonl')",
    "os.unlink(run + '/metrics.jsonl'); os.mkdir(run + '/metrics.jsonl')",
    "os.unlink(run + '/metrics.jsonl'); os.symlink('/dev/zero', run + '/metrics.jsonl')",
    'metrics.write(\'{"step": 1, "lo\'); metrics.flush()',
    "say(step=-1, loss=float('nan'), tokens=10**30, **{'\\ud800': 1.0, 'a\\nb': 2.0, 'x' * 1000: 3.0})",
    "say(loss=[1], step='two', tokens=True, accuracy=True, best=10**400)",
    "metrics.write('[' * 100000 + '\\n'); metrics.flush()",
    "metrics.truncate(1 << 40)",
]


@pytest.mark.parametrize("code", ODD)
def test_what_is_no_metric_is_passed_over_and_the_run_is_recorded(tmp_path: Path, code: str) -> None:
    outcome = run_to_end(tmp_path, code + "\nos._exit(3)")
    assert outcome.state is JobState.FAILED
    assert (outcome.steps, outcome.tokens, outcome.metrics) == (None, None, {})
    text = Project(tmp_path).outcome(outcome.run_id).read_text()
    assert json.loads(text)["metrics"] == {}


def test_only_the_end_of_a_long_file_is_read_and_no_more_names_than_a_person_gives(tmp_path: Path) -> None:
    code = (
        "for step in range(20000): say(step=step, loss=1.0, pad='x' * 100)\n"
        "say(step=20000, loss=0.5, **{f'm{number:04d}': 1.0 for number in range(1000)})\nsys.exit(3)"
    )
    outcome = run_to_end(tmp_path, code)
    assert (outcome.steps, outcome.metrics["loss"]) == (20000, 0.5)
    assert len(outcome.metrics) == 200
