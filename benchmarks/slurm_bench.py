"""What the Slurm benchmarks share: a real cluster for a while, and a process measured from start to end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.slurm_cluster import Shape, SlurmCluster

NEXA = str(Path(sys.executable).with_name("nexa"))
DRIVERS = Path(__file__).parent / "peer_drivers"


@dataclass(frozen=True, slots=True)
class Used:
    """What a process took, those it started and waited for included."""

    wall_s: float
    cpu_s: float
    status: int


@contextmanager
def brought_up(shape: Shape) -> Iterator[SlurmCluster]:
    """Give a cluster, which ends with the body."""
    with tempfile.TemporaryDirectory(prefix="nxb-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        cluster = SlurmCluster(Path(folder) / "c", shape)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


def make_environment(cluster: SlurmCluster, **more: str) -> dict[str, str]:
    """Return the environment of a person on a login node, whose Python keeps compiled files as it does by itself."""
    ours = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    return {**ours, **cluster.environment, **more}


def occupy(cluster: SlurmCluster, folder: Path) -> None:
    """Fill every node with one long job, so that whatever else is submitted waits."""
    script = folder / "occupy.sh"
    script.write_text("#!/bin/sh\nexec sleep 86400\n")
    for _ in cluster.node_names:
        cluster.run("sbatch", "--job-name=occupied", "--exclusive", "--nodes=1", "--output=/dev/null", str(script))
    deadline_s = time.monotonic() + 30.0
    while len(cluster.run("squeue", "-h", "-t", "R", "-o", "%i").split()) < len(cluster.node_names):
        if time.monotonic() > deadline_s:
            raise SystemExit("the nodes do not take their jobs")
        time.sleep(0.1)


def clear_queue(cluster: SlurmCluster) -> int:
    """Cancel every job that waits, and return how many jobs those were, an array's tasks counted one by one."""
    waiting = cluster.run("squeue", "-h", "-r", "-t", "PD", "-o", "%A")
    cluster.run("scancel", "--state=PENDING", "--full", check=False)
    deadline_s = time.monotonic() + 120.0
    while cluster.run("squeue", "-h", "-t", "PD", "-o", "%i").strip():
        if time.monotonic() > deadline_s:
            raise SystemExit("the queue does not empty")
        cluster.run("scancel", "--state=PENDING", "--user=root", check=False)
        time.sleep(0.1)
    return len(waiting.split())


def measure(command: Sequence[str], *, cwd: Path, env: Mapping[str, str], said: Path) -> Used:
    """Return what a command took from start to end; what it prints goes to a file."""
    with said.open("ab") as output:
        started_s = time.perf_counter()
        process = subprocess.Popen(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started_s
    process.returncode = os.waitstatus_to_exitcode(status)
    return Used(wall_s, usage.ru_utime + usage.ru_stime, process.returncode)
