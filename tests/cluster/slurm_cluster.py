"""A real Slurm of several nodes on this machine, for tests: munge, slurmctld, and a slurmd for each node.

A node lives in namespaces of its own (host name, mounts, processes), so that its programs see its name, its name
resolves, and pulling its plug is one kill. GPUs are pretended: character devices that Slurm hands out like real ones.
Needs root and Debian's packages slurmctld, slurmd, slurm-client and munge, whose slurmd may run several times.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nexa_infra.process import Child, SystemRunner
from tests.cluster.accounting import Database, write_dbd_conf
from tests.cluster.slurm_conf import render_conf, render_range

_START_S = 60.0
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
_RUNNER = SystemRunner()
_IN_NODE = 'mount --bind "$1" /etc/hosts && hostname "$2" && shift 2 && exec "$@"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the pretended machines have."""

    nodes: int = 3
    cpus: int = 8
    memory_mb: int = 65536
    gpus: int = 4
    max_array_size: int = 1001
    """Slurm's own default; the largest array index is one less."""
    requeue_hold_s: int = 5
    """A requeued job waits this long and a second more; the least that Slurm takes."""
    accounting: bool = False
    """With slurmdbd and a database of its own, for sacct."""
    extra: tuple[str, ...] = ()
    """Lines at the end of slurm.conf."""


@dataclass(slots=True)
class SlurmCluster:
    """The daemons of one cluster, whose files lie below one short folder."""

    folder: Path
    shape: Shape = field(default_factory=Shape)
    _ports: int = 0
    _daemons: dict[str, Child] = field(default_factory=dict)

    @property
    def environment(self) -> Mapping[str, str]:
        """What a client's environment needs to meet this cluster."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    @property
    def impatient(self) -> Mapping[str, str]:
        """The same for a client that gives up after 2 s when the controller does not answer, not after a minute."""
        return {"SLURM_CONF": str(self.folder / "impatient.conf")}

    @property
    def node_names(self) -> tuple[str, ...]:
        """The names of the nodes."""
        return tuple(f"n{number}" for number in range(1, self.shape.nodes + 1))

    def start(self) -> None:
        """Start every daemon and return when all nodes take jobs."""
        if os.geteuid() != 0:
            raise RuntimeError("the test cluster needs root, for its nodes' namespaces; run the tests as root")
        missing = [name for name in _PROGRAMS if shutil.which(name, path=_path()) is None]
        if missing:
            raise RuntimeError(f"{', '.join(missing)} missing: apt-get install slurmctld slurmd slurm-client munge")
        self._write_files()
        places = {"socket": "socket", "key-file": "key", "seed-file": "seed", "pid-file": "pid", "log-file": "log"}
        options = [f"--{option}={self.folder}/munge.{suffix}" for option, suffix in places.items()]
        self._start("munged", ["munged", "--foreground", "--force", *options])
        self._await("munged to answer", lambda: self._succeeds("munge", "-n", "-S", f"{self.folder}/munge.socket"))
        if self.shape.accounting:
            self._start_accounting()
        self.start_controller()
        for name in self.node_names:
            self.start_node(name)
        self._await("all nodes to be idle", lambda: len(self.list_ready()) == self.shape.nodes)

    def stop(self) -> None:
        """End every process of the cluster; its files stay for whoever wants to know what happened."""
        for name in list(self._daemons)[::-1]:
            self._end(name, signal.SIGKILL)

    def start_controller(self) -> None:
        """Start slurmctld from its saved state and return when it answers."""
        self._start("slurmctld", ["slurmctld", "-D", "-f", f"{self.folder}/slurm.conf"])
        self._await("slurmctld to answer", lambda: "is UP" in self.run("scontrol", "ping", check=False))

    def stop_controller(self, *, hard: bool = False) -> None:
        """End slurmctld; hard loses the jobs of its last 5 seconds, and gives their ids out again."""
        self._end("slurmctld", signal.SIGKILL if hard else signal.SIGTERM)

    def start_node(self, name: str) -> None:
        """Boot a node; it takes jobs as soon as the controller has heard of it."""
        (self.folder / "spool" / name).mkdir(parents=True, exist_ok=True)
        inside = ["slurmd", "-D", "-N", name, "-f", f"{self.folder}/slurm.conf"]
        apart = [
            "unshare",
            "--uts",
            "--mount",
            "--propagation=slave",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]
        self._start(name, [*apart, "sh", "-c", _IN_NODE, "sh", f"{self.folder}/hosts", name, *inside])

    def kill_node(self, name: str, *, tell: bool = True) -> None:
        """Pull a node's plug: all its processes end at once. Told, the controller knows it now, else after ~25 s."""
        self._end(name, signal.SIGKILL)
        if tell:
            self.run("scontrol", "update", f"nodename={name}", "state=down", "reason=plug pulled by a test")

    def revive_node(self, name: str) -> None:
        """Boot a killed node again and return when it takes jobs."""
        self.start_node(name)
        self._await(f"{name} to come back", lambda: name in self.list_ready())

    def restore(self) -> None:
        """End all jobs and start what is down; return when the controller answers and all nodes take jobs."""
        if not self._runs("slurmctld"):
            self.start_controller()
        self.run("scancel", "--quiet", f"--user={os.geteuid()}")
        for name in self.node_names:
            if not self._runs(name):
                self.start_node(name)
        self._await("all nodes to take jobs", lambda: len(self.list_ready()) == self.shape.nodes)

    def list_ready(self) -> frozenset[str]:
        """Return the names of the nodes that take jobs now."""
        text = self.run("sinfo", "-h", "-N", "-p", "main", "-o", "%N %T", check=False)
        ready = {"idle", "mixed", "allocated", "completing"}
        words = [line.split() for line in text.splitlines()]
        return frozenset(word[0] for word in words if len(word) == 2 and word[1] in ready)

    def run_on_node(self, name: str, *command: str) -> None:
        """Run a command among the mounts of a node, which the other nodes do not see."""
        inside = ["nsenter", f"--target={self._daemons[name].pid}", "--mount", *command]
        _RUNNER.run(inside, timeout_s=60).require_success()

    def run(self, *command: str, check: bool = True) -> str:
        """Return what a Slurm command prints."""
        completed = _RUNNER.run(list(command), timeout_s=120, env=self._command_environment())
        if check:
            completed.require_success()
        return completed.stdout

    def _runs(self, name: str) -> bool:
        daemon = self._daemons.get(name)
        return daemon is not None and daemon.poll() is None

    def _succeeds(self, *command: str) -> bool:
        return _RUNNER.run(list(command), timeout_s=30, env=self._command_environment()).returncode == 0

    def _command_environment(self) -> dict[str, str]:
        return {"PATH": _path(), "LANG": "C.UTF-8", **self.environment}

    def _start(self, name: str, command: list[str], **more: str) -> None:
        log = self.folder / f"{name}.out"
        log.touch()
        environment = {**self._command_environment(), **more}
        self._daemons[name] = _RUNNER.start(command, output=log, cwd=self.folder, env=environment)

    def _end(self, name: str, number: signal.Signals) -> None:
        daemon = self._daemons.pop(name, None)
        if daemon is None or daemon.poll() is not None:
            return
        daemon.send_signal(number)
        try:
            daemon.wait(20)
        except TimeoutError:
            daemon.send_signal(signal.SIGKILL)
            daemon.wait(20)

    def _await(self, what: str, holds: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + _START_S
        while not holds():
            if time.monotonic() > deadline_s:
                logs = "\n".join(f"{path.name}: {path.read_text()[-800:]}" for path in self.folder.glob("*.out"))
                raise RuntimeError(f"waited {_START_S:.0f} s for {what}\n{logs}")
            time.sleep(0.05)

    def _start_accounting(self) -> None:
        database = Database(self.folder / "database")
        database.create()
        self._start("database", database.command())
        self._await("the database to answer", database.answers)
        write_dbd_conf(self.folder, database, port=self._ports + 1)
        self._start("slurmdbd", ["slurmdbd", "-D"], MYSQL_UNIX_PORT=str(database.socket))
        self._await("slurmdbd to answer", lambda: self._succeeds("sacctmgr", "--noheader", "list", "cluster"))

    def _write_files(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        for folder in ("spool/controller", "dev"):
            (self.folder / folder).mkdir(parents=True)
        self._ports = _free_ports(self.shape.nodes + 2)
        key = self.folder / "munge.key"
        key.touch(mode=0o400)
        key.write_bytes(secrets.token_bytes(128))
        for number in range(self.shape.gpus):
            os.mknod(self.folder / "dev" / f"gpu{number}", 0o20666, os.makedev(1, 3))
        hosts = [f"127.0.0.1 localhost {socket.gethostname()}", *(f"127.0.0.1 {name}" for name in self.node_names)]
        (self.folder / "hosts").write_text("\n".join(hosts) + "\n")
        devices = f"{self.folder}/dev/gpu{render_range(self.shape.gpus, first=0)}"
        gres = f"Name=gpu Type=fake File={devices}\n" if self.shape.gpus else ""
        (self.folder / "gres.conf").write_text("AutoDetect=off\n" + gres)
        text = render_conf(self.shape, self.folder, port=self._ports)
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "impatient.conf").write_text(text.replace("MessageTimeout=60", "MessageTimeout=2"))


def _path() -> str:
    return f"{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin"


def _free_ports(count: int) -> int:
    # Consecutive, and below those that the kernel gives to clients.
    for _ in range(200):
        first = random.SystemRandom().randrange(12000, 30000)
        held: list[socket.socket] = []
        try:
            for port in range(first, first + count):
                held.append(socket.socket())
                held[-1].bind(("127.0.0.1", port))
        except OSError:
            continue
        else:
            return first
        finally:
            for each in held:
                each.close()
    raise RuntimeError(f"no {count} consecutive free ports")
