"""The script as Slurm runs it: in arrays, with the warning signal; a stand-in for Python says how."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nexa_contracts.clock import SystemClock
from nexa_contracts.resources import Resources
from nexa_contracts.site import SlurmSite
from nexa_infra.process import SystemRunner
from nexa_infra.scheduling.slurm.client import SlurmClient
from nexa_infra.scheduling.slurm.options import render_options
from nexa_infra.scheduling.slurm.script import SCRIPT, SCRIPT_NAME
from tests.cluster.slurm_cluster import SlurmCluster

STAND_IN = """#!/usr/bin/env -S python3 -I -S
import os, signal, sys, time
def say(text):
    with open('said', 'a') as stream:
        stream.write(text + chr(10))
def warn(number, frame):
    say('warned')
    sys.exit(0)
signal.signal(signal.SIGUSR1, warn)  # which the script ignores; a shell could not take it back
told = os.environ.get
task, cpus, gpus = told('SLURM_ARRAY_TASK_ID', '-'), told('SLURM_CPUS_PER_TASK'), told('CUDA_VISIBLE_DEVICES')
say(f"{os.uname().nodename} {task} {cpus} {gpus}: {' '.join(sys.argv[1:])}")
while os.path.exists('stay'):
    time.sleep(0.1)
"""


def submit(cluster: SlurmCluster, folder: Path, *arguments: str, array: str | None = None, **asked: Any) -> str:
    (folder / SCRIPT_NAME).write_text(SCRIPT)
    python = folder / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    client = SlurmClient(
        SystemRunner(), environment={"PATH": os.environ["PATH"], **cluster.environment}, clock=SystemClock()
    )
    options = render_options(
        Resources(memory="64MiB", walltime="10m", **asked),
        SlurmSite(),
        job_name="script",
        output="%A_%a.out",
        export=("PATH",),
        array=array,
    )
    return client.submit(options, folder / SCRIPT_NAME, [str(python), *arguments])


def wait_for_lines(folder: Path, holds: Callable[[list[str]], bool]) -> list[str]:
    deadline_s = time.monotonic() + 90
    said = folder / "said"
    while not holds(lines := said.read_text().splitlines() if said.exists() else []):
        logs = [path.read_text() for path in folder.glob("*.out")]
        assert time.monotonic() < deadline_s, (lines, logs)
        time.sleep(0.1)
    return lines


def test_tasks_of_an_array_get_the_same_arguments_and_their_own_number(cluster: SlurmCluster, tmp_path: Path) -> None:
    job_id = submit(cluster, tmp_path, "spec with space.json", "20", "3", array="0-1,4", cpus=2, gpus_per_node=1)
    lines = wait_for_lines(tmp_path, lambda lines: len(lines) == 3)
    assert sorted(line.split()[1] for line in lines) == ["0", "1", "4"]
    entry = ": -P -m nexa_infra.scheduling.slurm_entry spec with space.json --offset 20 --rows 3 --warning USR1@120"
    assert all(line.endswith(entry) for line in lines)
    assert all(line.split()[2] == "2" and line.split()[3][0].isdecimal() for line in lines)
    assert (tmp_path / f"{job_id}_4.out").read_text().startswith(f"nexa: job {job_id}, task 4, restart 0, on n")


def test_the_warning_reaches_the_entry_itself(cluster: SlurmCluster, tmp_path: Path) -> None:
    (tmp_path / "stay").touch()
    job_id = submit(cluster, tmp_path, "spec.json", "0")
    wait_for_lines(tmp_path, lambda lines: len(lines) == 1)
    cluster.run("scancel", "--batch", "--signal=USR1", job_id)
    assert wait_for_lines(tmp_path, lambda lines: len(lines) == 2)[1] == "warned"
