from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_contracts.errors import MissingExtra, StorageError
from nexa_contracts.run import RunConfig
from nexa_contracts.sweep import Axis, SweepConfig
from nexa_infra.process import SystemRunner
from nexa_infra.scheduling.adaptive.journal_lock import mend_tail
from nexa_infra.scheduling.adaptive.study import open_study, study_errors

SWEEP = SweepConfig(
    run=RunConfig(command=("true",)), search="tpe", trials=3, axes={"params.x": Axis(uniform=(0.0, 1.0))}
)
ASK = """
import sys
from pathlib import Path
from nexa_contracts.sweep import SweepConfig
from nexa_infra.scheduling.adaptive.study import open_study, study_errors
path = Path(sys.argv[1])
sweep = SweepConfig.from_json(sys.stdin.read(), source="")
study = open_study(path, sweep, sweep_id="s")
with study_errors(path):
    for _ in range(5):
        trial = study.ask()
        study.tell(trial, trial.suggest_float("params.x", 0, 1))
"""


@given(
    lines=st.lists(st.binary(max_size=9000).map(lambda text: text.replace(b"\n", b"")), max_size=3),
    tail=st.binary(max_size=9000),
)
def test_only_a_last_line_that_is_not_whole_is_cut_off(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], tail: bytes
) -> None:
    path = tmp_path_factory.mktemp("journal") / "study.journal"
    whole = b"".join(line + b"\n" for line in lines)
    path.write_bytes(whole + tail.replace(b"\n", b""))
    mend_tail(path)
    assert path.read_bytes() == whole


def test_a_study_survives_a_line_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "s" / "study.journal"
    study = open_study(path, SWEEP, sweep_id="s")
    study.tell(study.ask(), 1.0)
    with path.open("ab") as stream:
        stream.write(b'{"op_code":4,"worker')
    again = open_study(path, SWEEP, sweep_id="s")
    again.tell(again.ask(), 2.0)
    assert [trial.value for trial in open_study(path, SWEEP, sweep_id="s").trials] == [1.0, 2.0]
    assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_a_damaged_study_is_named(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    path.write_text('{"op_code": 0\n{"op_code": 0\n')
    with pytest.raises(StorageError, match=r"study\.journal: damaged"):
        open_study(path, SWEEP, sweep_id="s")


def test_a_lock_that_was_taken_away_is_a_trouble_of_the_journal(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"study\.journal: .* lock"), study_errors(tmp_path / "study.journal"):
        raise RuntimeError("Error: did not possess lock")


def test_two_workers_at_once_lose_no_trial(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    (tmp_path / "ask.py").write_text(
        "import subprocess, sys\n"
        f"text = {SWEEP.to_json()!r}\n"
        f"argv = [sys.executable, '-c', {ASK!r}, sys.argv[1]]\n"
        "both = [subprocess.Popen(argv, stdin=subprocess.PIPE, text=True) for _ in range(2)]\n"
        "for each in both:\n    each.stdin.write(text)\n    each.stdin.close()\n"
        "sys.exit(max([each.wait() for each in both]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    done = SystemRunner().run([sys.executable, str(tmp_path / "ask.py"), str(path)], timeout_s=120.0, env=environment)
    assert done.returncode == 0, done.stderr
    trials = open_study(path, SWEEP, sweep_id="s").trials
    assert len(trials) == 10
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    assert all(trial.value == trial.params["params.x"] for trial in trials)


def test_without_optuna_one_line_names_the_extra(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['optuna'] = None\n"
        "from pathlib import Path; from nexa_contracts.errors import MissingExtra\n"
        "from nexa_contracts.sweep import SweepConfig; from nexa_infra.scheduling.adaptive.study import open_study\n"
        "try: open_study(Path('study.journal'), SweepConfig.from_json(sys.argv[1], source=''), sweep_id='s')\n"
        "except MissingExtra as error: print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    done = SystemRunner().run(
        [sys.executable, "-c", program, SWEEP.to_json()], timeout_s=60.0, cwd=tmp_path, env=environment
    )
    expected = MissingExtra("search", package="optuna", needed_for="a tpe search or a pruner")
    assert done.stdout == f"{expected}\n"
    assert not (tmp_path / "study.journal").exists()
