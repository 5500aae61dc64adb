"""The script: the same bytes always, and arguments that stay arguments. Run here with stand-ins for Python and srun."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa_infra.process import Completed, SystemRunner
from nexa_infra.scheduling.slurm.script import SCRIPT, SCRIPT_NAME

GOLDEN = Path(__file__).parent / "golden" / SCRIPT_NAME
HOSTILE = (
    "$(touch broken)",
    "`touch broken`",
    "a; touch broken",
    "it's",
    'say "x"',
    "two\nlines",
    "*",
    "-n",
    "~",
    "a  b",
)
SHOW_ARGUMENTS = """#!/usr/bin/env python3
import json, sys
print(json.dumps(sys.argv))
"""


def run(folder: Path, *arguments: str, **environment: str) -> Completed:
    for name in ("python", "srun"):
        (folder / name).write_text(SHOW_ARGUMENTS)
        (folder / name).chmod(0o755)
    script = folder / SCRIPT_NAME
    script.write_text(SCRIPT)
    env = {"PATH": f"{folder}:/usr/bin:/bin", **environment}
    return SystemRunner().run(["/bin/sh", str(script), *arguments], timeout_s=60, cwd=folder, env=env)


def said(completed: Completed) -> list[str]:
    words: list[str] = json.loads(completed.require_success().stdout.splitlines()[-1])
    return words


def test_the_script_is_the_one_that_was_reviewed() -> None:
    assert GOLDEN.read_text() == SCRIPT


def test_it_names_no_option_and_takes_no_value() -> None:
    assert "#SBATCH" not in SCRIPT
    assert "eval" not in SCRIPT


def test_one_node_starts_the_job_entry_in_the_scripts_place(tmp_path: Path) -> None:
    python = str(tmp_path / "python")
    words = said(run(tmp_path, python, "spec.json", "17"))
    entry = ["-P", "-m", "nexa_infra.scheduling.slurm_entry", "spec.json", "--offset", "17", "--rows", "1"]
    assert words == [python, *entry]
    assert said(run(tmp_path, python, "spec.json", "17", "10", "batch"))[-1] == "10"


def test_several_nodes_start_an_entry_on_each(tmp_path: Path) -> None:
    python = str(tmp_path / "python")
    words = said(run(tmp_path, python, "spec.json", "0", "1", "srun", SLURM_CPUS_PER_TASK="12"))
    assert words[0] == str(tmp_path / "srun")
    assert "--cpus-per-task=12" in words
    assert words[words.index(python) :][:4] == [python, "-P", "-m", "nexa_infra.scheduling.node_entry"]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("how", ["batch", "srun"])
def test_no_argument_is_read_by_the_shell(tmp_path: Path, text: str, how: str) -> None:
    words = said(run(tmp_path, str(tmp_path / "python"), text, text, text, how, SLURM_JOB_NODELIST=text))
    assert words.count(text) == 3
    assert not (tmp_path / "broken").exists()


def test_the_log_says_which_job_it_is(tmp_path: Path) -> None:
    array = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2", "SLURM_RESTART_COUNT": "1"}
    completed = run(tmp_path, str(tmp_path / "python"), "spec.json", "0", SLURM_JOB_NODELIST="n1", **array)
    assert completed.stdout.splitlines()[0] == "nexa: job 7, task 2, restart 1, on n1"
    alone = run(tmp_path, str(tmp_path / "python"), "spec.json", "0", SLURM_JOB_ID="9")
    assert alone.stdout.splitlines()[0] == "nexa: job 9, task -, restart 0, on -"


def test_a_python_that_the_node_does_not_see_is_named(tmp_path: Path) -> None:
    completed = run(tmp_path, str(tmp_path / "gone"), "spec.json", "0", SLURMD_NODENAME="n3")
    assert completed.returncode == 127
    assert "gone: no such program on n3; slurm.python" in completed.stderr


def test_another_way_to_start_is_refused(tmp_path: Path) -> None:
    completed = run(tmp_path, str(tmp_path / "python"), "spec.json", "0", "1", "mpirun")
    assert (completed.returncode, "allowed: batch, srun" in completed.stderr) == (2, True)
