"""A cluster, a project on it whose scratch can be filled, and the commands a person would type there."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from nexa_contracts import env
from nexa_infra.process import Child, Completed, SystemRunner
from nexa_infra.storage.layout import Project, Tiers
from tests.cluster.slurm_cluster import Shape, SlurmCluster

NEXA = str(Path(sys.executable).with_name("nexa"))
PROGRAM = Path(__file__).with_name("slurm_faults_program.py")
_SITE = """\
backend: slurm
tiers: {{scratch: {root}/scratch, durable: {root}/durable, shared: {root}/shared}}
slurm: {{answer_timeout: 5s, signal_lead: 30s}}
"""
_URGENT = (
    "PreemptType=preempt/partition_prio",
    "PreemptMode=REQUEUE",
    "PartitionName=urgent Nodes=ALL PriorityTier=100 MaxTime=10 State=UP",
)
_COMMAND_S = 180.0


@dataclass
class FaultSite:
    """One cluster and one project."""

    root: Path
    cluster: SlurmCluster
    watch: Child | None = None
    seen: dict[str, set[str]] = field(default_factory=dict)
    """The ids under which Slurm was ever seen to have a job of a name."""

    @property
    def project(self) -> Project:
        """The project's files."""
        return Project(self.root / "project")

    @property
    def tiers(self) -> Tiers:
        """The project's tiers; scratch is a file system of its own."""
        return Tiers(*(self.root / name for name in ("scratch", "durable", "shared")))

    @property
    def evidence(self) -> Path:
        """Where the rows swear."""
        return self.root / "evidence"

    @property
    def environment(self) -> dict[str, str]:
        """Of a person on a login node."""
        place = {"NEXA_STATE_DIR": str(self.root / "state"), "HF_HUB_OFFLINE": "1"}
        return {**os.environ, **self.cluster.impatient, **place}

    def nexa(self, *words: str) -> Completed:
        """Return how a command went."""
        argv = [NEXA, *words]
        return SystemRunner().run(argv, timeout_s=_COMMAND_S, cwd=self.project.root, env=self.environment)

    def submit_sweep(self, name: str, run: dict[str, Any], rows: range) -> str:
        """Hand over a sweep over `params.row`, and return its id."""
        before = set(self.project.manifests.glob("sweep_*.json"))
        path = self.project.root / f"{name}.yaml"
        axes = {"params.row": {"values": list(rows)}}
        path.write_text(json.dumps({"name": name, "run": run, "axes": axes}))  # JSON is YAML
        self.nexa("sweep", path.name, "--backend", "slurm", "--submit").require_success()
        (made,) = set(self.project.manifests.glob("sweep_*.json")) - before
        return made.stem

    def launch(self, name: str, run: dict[str, Any]) -> str:
        """Hand over one run, and return its id."""
        before = set(self.project.manifests.glob("run_*.json"))
        path = self.project.root / f"{name}.yaml"
        path.write_text(json.dumps({"name": name, **run}))
        self.nexa("launch", path.name, "--backend", "slurm", "--detach").require_success()
        (made,) = set(self.project.manifests.glob("run_*.json")) - before
        return made.stem

    def start_watch(self) -> None:
        """Let `nexa watch` look after the project, as a service would."""
        log = self.root / "watch.log"
        log.touch()
        self.watch = SystemRunner().start(
            [NEXA, "watch", "--interval", "10", "--json"], output=log, cwd=self.project.root, env=self.environment
        )

    def await_watch(self, timeout_s: float) -> int | None:
        """Return the status that the watch left with by itself; None when it had to be ended."""
        if self.watch is None:
            return None
        try:
            return self.watch.wait(timeout_s)
        except TimeoutError:
            self.watch.send_signal(signal.SIGINT)
            self.watch.wait(20.0)
            return None

    def run_ids(self) -> list[str]:
        """Return every run of the project."""
        return sorted(path.stem for path in self.project.manifests.glob("run_*.json"))

    def is_over(self) -> bool:
        """Whether every run has its outcome."""
        return all(self.project.outcome(run_id).exists() for run_id in self.run_ids())

    def note_jobs(self) -> None:
        """Remember what Slurm holds under which name; nothing when it does not answer."""
        for line in self.ask("squeue", "-h", "-t", "all", "-o", "%j %F").splitlines():
            name, _, job_id = line.rpartition(" ")
            self.seen.setdefault(name, set()).add(job_id)

    def ask(self, *command: str) -> str:
        """Return what a command of Slurm prints; nothing when the controller is down, and that soon."""
        return SystemRunner().run(command, timeout_s=_COMMAND_S, env=self.environment).stdout

    def let_nodes_return(self) -> None:
        """Take nodes back that Slurm itself drained: whoever runs a cluster does that, and no user."""
        for line in self.ask("sinfo", "-h", "-N", "-p", "main", "-t", "drain", "-o", "%N").splitlines():
            self.ask("scontrol", "update", f"nodename={line.strip()}", "state=resume")

    def programs(self) -> Iterator[tuple[str, psutil.Process]]:
        """Yield the run and the process of every program that is running."""
        for process, run_id in self.processes():
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            is_ours = str(PROGRAM) in words
            is_training = words[1:3] == ["-m", "nexa_train.run"]
            if is_ours or is_training:
                yield run_id, process

    def processes(self) -> Iterator[tuple[psutil.Process, str]]:
        """Yield every process that carries a run of this project, with the run."""
        for process in psutil.process_iter():
            try:
                told = process.environ()
            except psutil.Error:
                continue
            if str(told.get(env.RUN_DIR, "")).startswith(str(self.project.runs)):
                yield process, told[env.RUN_ID]

    def fill_scratch(self) -> None:
        """Leave no room on scratch."""
        with (self.root / "scratch" / "ballast").open("wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(b"\0" * 65536)
            except OSError:
                return

    def free_scratch(self) -> None:
        """Give the room back."""
        (self.root / "scratch" / "ballast").unlink(missing_ok=True)


@contextmanager
def open_site(root: Path, shape: Shape, *, scratch_mib: int) -> Iterator[FaultSite]:
    """Give a running cluster and a new project; everything is ended afterwards."""
    root.mkdir(parents=True)
    for name in ("project", "evidence", "scratch", "durable", "shared"):
        (root / name).mkdir()
    runner = SystemRunner()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={scratch_mib}m", "tmpfs", str(root / "scratch")]
    runner.run(mount, timeout_s=20).require_success()
    site = FaultSite(root, SlurmCluster(root / "c", shape))
    try:
        (site.project.root / "nexa.yaml").write_text(_SITE.format(root=root))
        site.cluster.start()
        site.nexa("storage", "init").require_success()
        yield site
    finally:
        if site.watch is not None and site.watch.poll() is None:
            site.watch.send_signal(signal.SIGKILL)
        site.cluster.stop()
        for process, _ in list(site.processes()):
            process.kill()
        runner.run(["umount", "--lazy", str(root / "scratch")], timeout_s=20)


def make_shape(cpus: int) -> Shape:
    """Return three nodes of which an urgent partition may take any."""
    return Shape(nodes=3, cpus=cpus, gpus=0, extra=_URGENT)
