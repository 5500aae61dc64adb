"""The script: the same bytes always, and arguments that stay arguments. Run here with a stand-in for Python."""

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


SHOW_IGNORED = """#!/usr/bin/env python3
import signal
ignored = [each.name[3:] for each in signal.Signals if signal.getsignal(each) is signal.SIG_IGN]
print(*[name for name in ignored if name.startswith("USR")])
"""


def run(folder: Path, *arguments: str, **environment: str) -> Completed:
    (folder / "python").write_text(SHOW_ARGUMENTS)
    (folder / "ignored").write_text(SHOW_IGNORED)
    for name in ("python", "ignored"):
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


def test_the_job_entry_starts_in_the_scripts_place(tmp_path: Path) -> None:
    python = str(tmp_path / "python")
    words = said(run(tmp_path, python, "spec.json", "17"))
    entry = ["-P", "-m", "nexa_infra.scheduling.slurm_entry", "spec.json", "--offset", "17"]
    assert words == [python, *entry, "--rows", "1", "--warning", "USR1@120"]
    words = said(run(tmp_path, python, "spec.json", "17", "10", "USR2@60"))
    assert words == [python, *entry, "--rows", "10", "--warning", "USR2@60"]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_argument_is_read_by_the_shell(tmp_path: Path, text: str) -> None:
    words = said(run(tmp_path, str(tmp_path / "python"), text, text, text, text, SLURM_JOB_NODELIST=text))
    assert words.count(text) == 4
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


def test_a_warning_does_not_end_it_while_it_starts(tmp_path: Path) -> None:
    completed = run(tmp_path, str(tmp_path / "ignored"), "spec.json", "0")
    assert completed.stdout.splitlines()[-1] == "USR1 USR2"
