"""Crashes that torchrun would start again for ever: noted, known when they come again, and not tried a third time."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from nexa_contracts.resources import Resources
from nexa_contracts.states import REPEATED_CRASH, JobState
from nexa_infra.launchers.crashes import ERROR_FILE, CrashSite, find_exception, find_repeated, list_notes
from nexa_infra.launchers.torchrun import TorchrunLauncher
from nexa_infra.process import SystemRunner
from nexa_infra.scheduling.backend import render_spec
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import read_attempts, read_outcome
from nexa_infra.storage.run_dir import RunDir
from nexa_infra.testing.backend import make_entry, make_request

COUNTS = """
import json, os, sys
folder = os.environ["NEXA_RUN_DIR"]
if os.environ["RANK"] == "0":
    starts = open(folder + "/starts", "a")
    starts.write("x")
    starts.close()
    count = os.path.getsize(folder + "/starts")
    with open(folder + "/metrics.jsonl", "a") as lines:
        lines.write(json.dumps({"step": STEP}) + chr(10))
    raise ValueError(WHAT)
import time
time.sleep(600)
"""


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    found = RunDir(tmp_path / "run")
    found.attempts.mkdir(parents=True)
    return found


class Node:
    """The processes of one node, as they crash."""

    def __init__(self, run_dir: RunDir, *, node: int = 0) -> None:
        self.run_dir = run_dir
        self.node = node
        self.error = run_dir.path / f"error-{node}.json"

    def crash(self, text: object, *, step: int | None = 7, restart: int = 0, attempt: int = 1) -> bool:
        environment = {
            "TORCHELASTIC_MAX_RESTARTS": "3",
            "TORCHELASTIC_RESTART_COUNT": str(restart),
            "GROUP_RANK": str(self.node),
            ERROR_FILE: str(self.error),
        }
        site = CrashSite.find(self.run_dir, attempt, environment)
        assert site is not None
        self.error.write_text(json.dumps({"message": text, "step": step}))
        return site.note()


def test_the_same_exception_at_the_same_step_is_known_when_it_comes_again(run_dir: RunDir) -> None:
    node = Node(run_dir)
    assert not node.crash("ValueError: bad row at 0x7f01")
    assert find_repeated(run_dir, 1) is None
    assert node.crash("ValueError: bad row at 0x7fff", restart=1)
    assert find_repeated(run_dir, 1) is not None
    assert find_repeated(run_dir, 2) is None


def test_one_that_came_in_an_earlier_attempt_is_known_wherever_it_came(run_dir: RunDir) -> None:
    Node(run_dir).crash("ValueError: bad row")
    Node(run_dir).crash("KeyError: 'x'", restart=1)
    assert Node(run_dir, node=1).crash({"message": "ValueError: bad row", "extraInfo": {}}, attempt=2)


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("ValueError: bad row", 8), ("ValueError: bad row", None), ("KeyError: 'bad row'", 7),
        (None, 7), (["ValueError: bad row"], 7),
    ],
)  # fmt: skip
def test_another_crash_is_started_again(run_dir: RunDir, text: object, step: int | None) -> None:
    node = Node(run_dir)
    node.crash("ValueError: bad row")
    assert not node.crash(text, step=step, restart=1)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "torch.distributed.DistBackendError: NCCL error",
        "RuntimeError: Connection reset",
        "StorageError: /scratch/x: writing: no space left on device",
        "torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered",
    ],
)
def test_what_may_pass_or_follows_from_anothers_death_is_started_again(run_dir: RunDir, text: str | None) -> None:
    node = Node(run_dir)
    assert [node.crash(text, restart=restart) for restart in range(3)] == [False] * 3


def test_all_processes_of_one_start_may_crash_alike(run_dir: RunDir) -> None:
    assert not any(Node(run_dir, node=node).crash("ValueError: bad row") for node in (0, 0, 1, 1))
    assert len(list_notes(run_dir)) == 2
    assert [Node(run_dir, node=1).crash("ValueError: bad row", restart=1) for _ in range(2)] == [True, False]


def test_a_note_holds_no_words_of_a_program(run_dir: RunDir) -> None:
    Node(run_dir).crash("ValueError: no user hunter2")
    (note,) = list_notes(run_dir)
    assert "hunter2" not in note.read_text()
    assert json.loads(note.read_text())["exception"] == "ValueError"


def test_where_torchrun_starts_nothing_again_nothing_is_noted(run_dir: RunDir) -> None:
    assert CrashSite.find(run_dir, 1, {"TORCHELASTIC_MAX_RESTARTS": "0"}) is None
    assert CrashSite.find(run_dir, 1, {}) is None


@pytest.mark.parametrize(
    ("log", "found"),
    [
        (
            "Traceback (most recent call last):\n  File\nKeyError: 'x'\n\nDuring\nTraceback (most\nValueError: y\n",
            "KeyError: 'x'",
        ),
        ("[rank1]: Traceback (most recent call last):\n[rank1]:   File\n[rank1]: StopIteration\n", "StopIteration"),
        ("ValueError: only talked of\n", None),
        ("Traceback (most recent call last):\n  File\n", None),
        ("", None),
    ],
)
def test_the_first_exception_of_a_log_is_the_cause(log: str, found: str | None) -> None:
    assert find_exception(log.splitlines()) == found


def run_to_end(root: Path, *, step: str, what: str, restarts: int) -> RunDir:
    """Run what torchrun starts again, in an attempt of the job entry and then as often as it is told to."""
    code = COUNTS.replace("STEP", step).replace("WHAT", what)
    program = TorchrunLauncher().wrap(
        [sys.executable, "-c", code],
        Resources(processes_per_node=2, cpus=2),
        run_id=make_entry(root, "").run_id,
        max_restarts=restarts,
    )
    request = make_request(root, "", command=program, max_retries=1)
    spec = Project(root).spec(request.submission)
    spec.parent.mkdir(parents=True, exist_ok=True)
    spec.write_text(render_spec(request))
    argv = [sys.executable, "-P", "-m", "nexa_infra.scheduling.job_entry", str(spec), "--index", "0"]
    run_dir = Project(root).run_dir(make_entry(root, "").run_id)
    for _ in range(2):
        if not Project(root).outcome(run_dir.path.name).exists():
            SystemRunner().run(argv, timeout_s=200, env=dict(os.environ))
    return run_dir


def test_a_crash_that_comes_each_time_ends_its_attempt_and_its_run_after_two_starts(tmp_path: Path) -> None:
    run_dir = run_to_end(tmp_path, step="4", what="'bad row'", restarts=5)
    outcome = read_outcome(Project(tmp_path), run_dir.path.name)
    assert (run_dir.path / "starts").read_text() == "xx"
    assert (outcome.state, outcome.attempts) == (JobState.FAILED, 1)
    assert outcome.failure is not None
    assert outcome.failure.kind == REPEATED_CRASH
    assert outcome.failure.message == (
        "ValueError: bad row; the same as earlier in this attempt at step 4, so it is not tried again"
    )
    assert outcome.failure.evidence[-1] == "ValueError: bad row"


def test_a_crash_at_another_step_is_started_again_as_often_as_allowed(tmp_path: Path) -> None:
    run_dir = run_to_end(tmp_path, step="count", what="'bad row'", restarts=1)
    assert (run_dir.path / "starts").read_text() == "x" * 2 * 2
    assert len(read_attempts(Project(tmp_path), run_dir.path.name)) == 2


def test_without_restarts_a_crash_is_told_by_its_own_words_and_tried_again_when_they_differ(tmp_path: Path) -> None:
    run_dir = run_to_end(tmp_path, step="4", what="f'bad row {count}'", restarts=0)
    assert (run_dir.path / "starts").read_text() == "xx"
    outcome = read_outcome(Project(tmp_path), run_dir.path.name)
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.message) == ("crash", "ValueError: bad row 2")
