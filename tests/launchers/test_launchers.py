from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_contracts.errors import ConfigError
from nexa_contracts.resources import Resources
from nexa_infra.launchers.launcher import Launcher
from nexa_infra.launchers.registry import list_launchers, select_launcher
from nexa_infra.launchers.torchrun import TorchrunLauncher
from nexa_infra.process import SystemRunner

RUN_ID = "run_20260102_030405_k3f9"
LAUNCHERS = list(list_launchers().values())


@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda launcher: str(launcher.name))
@given(command=st.lists(st.text(), min_size=1), gpus=st.integers(0, 8))
def test_the_command_is_passed_on_word_by_word(launcher: Launcher, command: list[str], gpus: int) -> None:
    resources = Resources(gpus_per_node=gpus)
    wrapped = launcher.wrap(command, resources, run_id=RUN_ID)
    assert wrapped[-len(command) :] == tuple(command)
    assert wrapped == launcher.wrap(command, resources, run_id=RUN_ID)


def test_one_process_cannot_be_on_several_nodes() -> None:
    with pytest.raises(ConfigError, match=r"resources\.nodes: found 2"):
        select_launcher("python").wrap(["true"], Resources(nodes=2), run_id=RUN_ID)


def test_several_nodes_are_started_by_a_step_on_each() -> None:
    command = TorchrunLauncher().wrap(["true"], Resources(nodes=2), run_id=RUN_ID)
    assert "nexa_infra.scheduling.step_entry" in command
    assert "--nodes=2" in command


def test_two_runs_on_one_machine_never_share_a_rendezvous() -> None:
    one, other = (TorchrunLauncher().wrap(["true"], Resources(), run_id=f"{RUN_ID}-{n}") for n in ("001", "002"))
    assert [word for word in one if word not in other] == [f"--run-id={RUN_ID}-001"]


def test_processes_share_the_cores() -> None:
    launcher = select_launcher("torchrun")
    assert launcher.environment(Resources(gpus_per_node=4, cpus=18)) == {"OMP_NUM_THREADS": "4"}
    assert launcher.environment(Resources(gpus_per_node=4, cpus=2)) == {"OMP_NUM_THREADS": "1"}
    assert select_launcher("python").environment(Resources(cpus=18)) == {}


def test_an_unknown_launcher_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="found 'mpirun'; allowed: python, torchrun"):
        select_launcher("mpirun")


def test_torchrun_starts_one_process_per_gpu_and_each_knows_its_rank(tmp_path: Path) -> None:
    # The installed torchrun itself, because its options change between versions. No GPU is touched.
    code = (
        "import os; rank, size, job = (os.environ[n] for n in ('RANK', 'WORLD_SIZE', 'TORCHELASTIC_RUN_ID')); "
        "open(rank, 'w').write(f'{size} {job}')"
    )
    command = TorchrunLauncher().wrap([sys.executable, "-c", code], Resources(gpus_per_node=2), run_id=RUN_ID)
    SystemRunner().run(command, timeout_s=300, cwd=tmp_path).require_success()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"0": f"2 {RUN_ID}-1", "1": f"2 {RUN_ID}-1"}
