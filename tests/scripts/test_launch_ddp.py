"""`scripts/launch_ddp.sh`: the variables of a rendezvous as given or worked out, and real processes that meet."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from nexa_infra.process import Completed, SystemRunner

REPOSITORY = Path(__file__).parents[2]
SCRIPT = str(REPOSITORY / "scripts" / "launch_ddp.sh")
MEET = """
import os, torch, torch.distributed as dist
dist.init_process_group("gloo")
total = torch.tensor([float(os.environ["RANK"]) + 1])
dist.all_reduce(total)
print("sum", int(total), "of", dist.get_world_size())
dist.destroy_process_group()
"""
SHOW = '#!/bin/sh\nfor word; do printf "%s\\n" "$word"; done\n'
HOSTS = "#!/bin/sh\nprintf 'n3\\nn4\\n'\n"


def run(*words: str, env: Mapping[str, str]) -> Completed:
    clean = {name: text for name, text in os.environ.items() if not name.startswith("SLURM_")}
    return SystemRunner().run([SCRIPT, *words], timeout_s=120, env={**clean, **env})


@pytest.fixture
def shown(tmp_path: Path) -> dict[str, str]:
    """An interpreter that prints its arguments, and a Slurm that knows two nodes."""
    for name, text in {"python": SHOW, "scontrol": HOSTS, "nvidia-smi": "#!/bin/sh\nexit 1\n"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}"}


def test_one_line_a_node_makes_one_group() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    told = {"PYTHON": sys.executable, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "3"}
    words = ("--nproc", "1", sys.executable, "-c", MEET)
    env = [{**os.environ, **told, "RANK": str(rank)} for rank in range(3)]
    others = [SystemRunner().start([SCRIPT, *words], output="ours", env=each) for each in env[1:]]
    first = run(*words, env=env[0])
    assert first.returncode == 0, first.stderr
    assert "sum 6 of 3" in first.stdout
    assert [other.wait(60.0) for other in others] == [0, 0]


def test_what_is_given_is_passed_on(shown: dict[str, str]) -> None:
    given = {"RANK": "02", "WORLD_SIZE": "4", "MASTER_ADDR": "node1", "MASTER_PORT": "4000"}
    done = run("--nproc=2", "train", "a b", "$(c)", env={**shown, **given})
    assert done.stdout.splitlines() == [
        "-m", "torch.distributed.run", "--nnodes=2", "--node-rank=1", "--nproc-per-node=2", "--master-addr=node1",
        "--master-port=4000", "--no-python", "train", "a b", "$(c)",
    ]  # fmt: skip


def test_within_a_slurm_job_its_nodes_are_worked_out(shown: dict[str, str]) -> None:
    slurm = {"SLURM_JOB_NODELIST": "n[3-4]", "SLURM_NODEID": "1", "SLURM_JOB_ID": "09"}
    words = run("--nproc", "2", "train", env={**shown, **slurm}).stdout.splitlines()
    assert words[2:7] == [
        "--nnodes=2", "--node-rank=1", "--nproc-per-node=2", "--master-addr=n3", "--master-port=10312",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("visible", "processes"),
    [("0,2", 2), ("GPU-1b2c,GPU-3d4e,MIG-5f", 3), ("3", 1), ("", 1), ("NoDevFiles", 1), ("-1", 1)],
)
def test_of_the_gpus_those_that_may_be_seen_count(
    shown: dict[str, str], tmp_path: Path, visible: str, processes: int
) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nfor n in 0 1 2 3; do echo GPU $n: NVIDIA H200; done\n")
    assert "--nproc-per-node=4" in run(env=shown).stdout.splitlines()
    words = run(env={**shown, "CUDA_VISIBLE_DEVICES": visible}).stdout.splitlines()
    assert f"--nproc-per-node={processes}" in words


def test_two_on_one_machine_do_not_meet() -> None:
    words = ("--nproc", "2", sys.executable, "-c", MEET)
    env = {"PYTHON": sys.executable}
    other = SystemRunner().start([SCRIPT, *words], output="ours", env={**os.environ, **env})
    done = run(*words, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("sum 3 of 2") == 2
    assert other.wait(60.0) == 0


def test_on_one_machine_a_place_that_is_given_is_kept(shown: dict[str, str]) -> None:
    words = run("x", env={**shown, "MASTER_PORT": "4000"}).stdout.splitlines()
    assert words[2:7] == [
        "--nnodes=1", "--node-rank=0", "--nproc-per-node=1", "--master-addr=127.0.0.1", "--master-port=4000",
    ]  # fmt: skip


def test_the_help_names_every_variable_that_is_read(shown: dict[str, str]) -> None:
    said = run("--help", env=shown).stdout
    for name in (
        "RANK",
        "WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
        "NPROC_PER_NODE",
        "CUDA_VISIBLE_DEVICES",
        "PYTHON",
    ):
        assert name in said


def test_alone_it_is_one_process_of_our_training(shown: dict[str, str]) -> None:
    words = run(env=shown).stdout.splitlines()
    assert words[2:] == [
        "--standalone", "--nproc-per-node=1", "--local-addr=127.0.0.1", "--no-python", "python", "-m", "nexa_train.run",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "env", "said"),
    [
        (("--nproc",), {}, "--nproc: found ''"),
        (("--nproc", "0"), {}, "--nproc: found '0'; allowed: a whole number from 1"),
        (("--nproc", "1; touch x"), {}, "--nproc: found '1; touch x'"),
        (("--what",), {}, "found --what; allowed: --nproc N"),
        (("--nproc", "2", "x"), {"WORLD_SIZE": "3"}, "WORLD_SIZE: found 3; allowed: a multiple of the 2 processes"),
        (("x",), {"WORLD_SIZE": "a[$(touch x)]"}, "WORLD_SIZE: found 'a[$(touch x)]'"),
        (("x",), {"WORLD_SIZE": "2"}, "MASTER_ADDR: not set"),
        (("x",), {"WORLD_SIZE": "2", "MASTER_ADDR": "n", "RANK": "2"}, "RANK: found 2"),
        (("x",), {"MASTER_PORT": "70000"}, "MASTER_PORT: found 70000; allowed: up to 65535"),
        (("x",), {"SLURM_JOB_NODELIST": "n[3-4]", "SLURM_NODEID": "x"}, "SLURM_NODEID: found 'x'"),
        (("x",), {"PYTHON": "no-such-python"}, "no-such-python: not found"),
    ],
)
def test_what_cannot_be_is_one_line(
    shown: dict[str, str], tmp_path: Path, words: tuple[str, ...], env: dict[str, str], said: str
) -> None:
    done = run(*words, env={**shown, **env})
    assert done.returncode == 2
    assert done.stderr.startswith(f"launch_ddp.sh: {said}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "x").exists()
