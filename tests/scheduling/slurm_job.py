"""A job as Slurm starts it, with a controller of three lines in place of Slurm's."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from nexa_infra.process import Child, SystemRunner
from nexa_infra.scheduling.backend import LaunchRequest, render_spec
from nexa_infra.storage.layout import Project
from tests.scheduling.local_machine import wait_until

ENTRY = (sys.executable, "-P", "-m", "nexa_infra.scheduling.slurm_entry")
NODE = "rack1.n7"
"""What the cluster calls the node; no host has to have that name."""
RUNNING = "JobState=RUNNING Restarts={restarts} RunTime=00:01:00 TimeLimit=02:00:00"
CANCELLED = "JobState=COMPLETING Restarts={restarts} RunTime=00:01:00 TimeLimit=02:00:00"
_SCONTROL = """\
#!/bin/sh
echo "$*" >> "{folder}/asked"
case "$*" in *requeue*) if [ -e "{folder}/refusal" ]; then cat "{folder}/refusal" >&2; exit 1; fi ;; esac
case "$*" in *show*) cat "{folder}/view" ;; esac
"""


@dataclass
class SlurmJob:
    """The task 3 of an array job 12, which may be started again."""

    root: Path
    spec: Path
    name: str = "sweep.c0"
    restarts: int = 0
    says: str = RUNNING
    """What the controller says of it when it starts."""

    @property
    def folder(self) -> Path:
        return self.root / "controller"

    def say(self, view: str) -> None:
        """Let the controller say this of the job."""
        (self.folder / "view").write_text(view.format(restarts=self.restarts) + "\n")

    @property
    def asked(self) -> list[str]:
        """What the controller was asked."""
        path = self.folder / "asked"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def requeues(self) -> list[str]:
        return [line for line in self.asked if line.startswith("requeue")]

    def start(self, *arguments: object) -> Child:
        """Start the job's entry, as its script does."""
        self.say(self.says)
        told = {
            **os.environ,
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "15",
            "SLURM_ARRAY_JOB_ID": "12",
            "SLURM_ARRAY_TASK_ID": "3",
            "SLURM_JOB_NAME": self.name,
            "SLURMD_NODENAME": NODE,
            "SLURM_CLUSTER_NAME": "test",
            "SLURM_RESTART_COUNT": str(self.restarts),
        }
        argv = [*ENTRY, str(self.spec), *map(str, arguments)]
        return SystemRunner().start(argv, output=self.root / "slurm.out", env=told)

    def run(self, *arguments: object) -> int:
        """Return the entry's exit status."""
        return end(self.start(*arguments))

    def restart(self, *arguments: object) -> int:
        """Run it as the same job's next start."""
        self.restarts += 1
        return self.run(*arguments)


def make_job(root: Path, request: LaunchRequest) -> SlurmJob:
    """Return a job over a request's spec."""
    spec = Project(root).spec(request.submission)
    spec.parent.mkdir(parents=True, exist_ok=True)
    spec.write_text(render_spec(request))
    job = SlurmJob(root, spec)
    job.folder.mkdir(exist_ok=True)
    program = job.folder / "scontrol"
    program.write_text(_SCONTROL.format(folder=job.folder))
    program.chmod(0o755)
    return job


def end(child: Child) -> int:
    """Return the status of a started entry."""
    wait_until(lambda: child.poll() is not None, what="end of the job's entry")
    return int(child.poll() or 0)


def warn(child: Child, number: signal.Signals, *, when: Path) -> None:
    """Send a signal as Slurm does, once the program has written a file."""
    wait_until(when.exists, what=f"file {when}")
    child.send_signal(number)
