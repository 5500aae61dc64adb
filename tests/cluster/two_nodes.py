"""Jobs of two nodes on a real Slurm, started as the job entry starts them, with plain sbatch around."""

from __future__ import annotations

import itertools
import json
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import psutil

from nexa_contracts import env
from nexa_contracts.clock import SystemClock
from nexa_contracts.resources import Resources
from nexa_infra.launchers.torchrun import STEP_ENTRY, TorchrunLauncher
from nexa_infra.process import SystemRunner
from nexa_infra.storage.layout import Tiers
from nexa_infra.storage.tiers import init_tiers
from nexa_train.job import Job
from tests.cluster.slurm_cluster import SlurmCluster
from tests.train.training_site import REPOSITORY, Site, register, sentence, write_jsonl

FoundT = TypeVar("FoundT")
DEADLINE_S = 240.0
TRAINING = (sys.executable, "-m", "nexa_train.run")
OWN_SCRATCH = ("sh", "-c", 'NEXA_SCRATCH_DIR="$NEXA_SCRATCH_DIR/$SLURMD_NODENAME" exec "$@"', "sh")
"""Before a command: each node has a scratch that the others do not see."""
ONCE = '#!/bin/sh\nexec "$@"\n'
_ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"})


def make_site(root: Path) -> Site:
    """Return tiers with the dataset `words`."""
    tiers = Tiers(root / "scratch", root / "durable", root / "shared")
    init_tiers(tiers, clock=SystemClock())
    words = random.Random(5)
    register(tiers, "words", write_jsonl(root / "words.jsonl", [{"text": sentence(words, 120)} for _ in range(300)]))
    return Site(tiers, root, itertools.count(1))


@dataclass
class TwoNodes:
    """Submits attempts of runs, and looks at what runs on the nodes."""

    cluster: SlurmCluster
    site: Site

    def submit(
        self,
        job: Job,
        command: Sequence[str] = TRAINING,
        *,
        attempt: int = 1,
        processes: int = 1,
        restarts: int = 0,
        script: str = ONCE,
    ) -> str:
        """Return the id of a Slurm job of two nodes that runs one attempt, or what the script makes of it."""
        resources = Resources(nodes=2, processes_per_node=processes, cpus=processes)
        argv = TorchrunLauncher().wrap(command, resources, run_id=job.run_id, max_restarts=restarts)
        path = self.site.root / "job.sh"
        path.write_text(script)
        told = {**self.site.environment(replace(job, attempt=attempt)), **self.cluster.environment}
        told |= {env.JOB_TOKEN: f"{job.run_id}-{attempt}", "PYTHONPATH": str(REPOSITORY)}
        options = ["--nodes=2", "--ntasks-per-node=1", f"--cpus-per-task={processes}", "--export=ALL", "--parsable"]
        options += [f"--output={self.log(job, attempt)}", f"--chdir={REPOSITORY}"]
        done = SystemRunner().run(["sbatch", *options, str(path), *argv], timeout_s=60, env=told)
        return done.require_success().stdout.strip()

    def log(self, job: Job, attempt: int = 1) -> Path:
        """Return where the output of an attempt goes."""
        return self.site.root / f"{job.run_id}-{attempt}.log"

    def await_end(self, job_id: str) -> str:
        """Return the state that a Slurm job ended in."""
        return wait_for(f"job {job_id} to end", lambda: self._find_end(job_id))

    def ranks(self, job: Job, rank: int | None = None) -> list[psutil.Process]:
        """Return the processes of a run's program, on all nodes."""
        return [process for process in self.carriers(job) if _is_program(process, rank)]

    def carriers(self, job: Job) -> list[psutil.Process]:
        """Return everything that runs for a run, Slurm's own processes left out."""
        return [process for process in psutil.process_iter() if _read_variable(process, env.RUN_ID) == job.run_id]

    def await_step(self, job: Job, step: int) -> None:
        """Return when a training has logged a step."""
        wait_for(f"step {step}", lambda: any(line["step"] >= step for line in read_lines(job.run_dir.metrics)) or None)

    def await_ranks(self, job: Job, count: int) -> list[psutil.Process]:
        """Return the processes of a program when there are so many."""
        return wait_for(f"{count} processes", lambda: found if len(found := self.ranks(job)) == count else None)

    def kill_step_entry(self, job: Job) -> None:
        """End what holds the nodes together, so that it cannot end them itself."""
        for process in self.carriers(job):
            if _read_command(process)[1:3] == ["-m", STEP_ENTRY]:
                process.kill()

    def tell_batch(self, job_id: str, number: signal.Signals) -> None:
        """Send a signal to what stands in the place of the batch script."""
        self.cluster.run("scancel", "--batch", f"--signal={number.name[3:]}", job_id)

    def _find_end(self, job_id: str) -> str | None:
        state = self.cluster.run("squeue", "-h", "-t", "all", "-j", job_id, "-o", "%T", check=False).strip()
        return state if state in _ENDED else None


def wait_for(what: str, look: Callable[[], FoundT | None]) -> FoundT:
    """Return what a look finds, as soon as it finds something."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not (found := look()):
        assert time.monotonic() < deadline_s, f"waited {DEADLINE_S:.0f} s for {what}"
        time.sleep(0.1)
    return found


def read_lines(path: Path) -> Iterator[dict[str, int]]:
    """Yield the objects of a file with one a line; one that is being written is left out."""
    for line in path.read_text().splitlines(keepends=True) if path.exists() else []:
        if line.endswith("\n"):
            yield json.loads(line)


def _is_program(process: psutil.Process, rank: int | None) -> bool:
    found = _read_variable(process, "RANK")
    is_wrapper = "nexa_infra.launchers.rank" in _read_command(process)
    return found is not None and not is_wrapper and (rank is None or found == str(rank))


def _read_variable(process: psutil.Process, name: str) -> str | None:
    try:
        variables: dict[str, str] = process.environ()
    except psutil.Error:
        return None
    return variables.get(name)


def _read_command(process: psutil.Process) -> list[str]:
    try:
        words: list[str] = process.cmdline()
    except psutil.Error:
        return []
    return words
