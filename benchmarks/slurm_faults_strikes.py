"""What a cluster does to its jobs, done on purpose: each strike is drawn from a seed, noted, mended."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psutil
from slurm_faults_site import FaultSite

from nexa_contracts.errors import ExternalError

RANK, NODE, PREEMPT = "rank killed", "node killed", "preempted"
RESTART, CRASH, FULL = "controller restarted", "controller killed", "scratch full"
KINDS = (RANK, NODE, PREEMPT, RESTART, CRASH, FULL)
_NODE_DOWN_S = (2.0, 45.0)
"""From less than anybody notices to longer than the controller waits."""
_CONTROLLER_DOWN_S = (1.0, 12.0)
_FULL_S = (4.0, 10.0)
_URGENT_S = (1, 6)


@dataclass(frozen=True, slots=True)
class Strike:
    """One that hit something."""

    kind: str
    what: str
    """Which node, run or file."""
    at: datetime

    def describe(self) -> dict[str, Any]:
        """Return it for the figures."""
        return {"at": self.at.isoformat(timespec="milliseconds"), "kind": self.kind, "what": self.what}


@dataclass
class Striker:
    """Strikes at a site, and mends what it broke when its time has come."""

    site: FaultSite
    rng: random.Random
    strikes: list[Strike] = field(default_factory=list)
    missed: int = 0
    """Strikes that found nothing to hit."""
    most_down: int = 1
    """Nodes that are down at a time."""
    _mends: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    _down: set[str] = field(default_factory=set)
    _is_silent: bool = False
    """Whether the controller is down."""
    _is_full: bool = False

    def strike(self, kind: str) -> bool:
        """Do one thing of a kind and return whether it hit."""
        strikes = {
            RANK: self._kill_rank,
            NODE: self._kill_node,
            PREEMPT: self._preempt,
            RESTART: lambda: self._stop_controller(hard=False),
            CRASH: lambda: self._stop_controller(hard=True),
            FULL: self._fill,
        }
        moment = datetime.now(UTC)
        what = strikes[kind]()
        if what is None:
            self.missed += 1
            return False
        self.strikes.append(Strike(kind, what, moment))
        return True

    def mend(self) -> None:
        """Mend what is due."""
        now_s = time.monotonic()
        due = [each for each in self._mends if each[0] <= now_s]
        self._mends = [each for each in self._mends if each[0] > now_s]
        for _, repair in due:
            repair()

    def mend_all(self) -> None:
        """Mend everything now."""
        self._mends = [(0.0, repair) for _, repair in self._mends]
        self.mend()

    @property
    def is_mending(self) -> bool:
        """Whether something is broken still."""
        return bool(self._mends)

    def count(self) -> dict[str, int]:
        """Return how many of each kind hit."""
        return {kind: sum(each.kind == kind for each in self.strikes) for kind in KINDS}

    def _kill_rank(self) -> str | None:
        programs = sorted(self.site.programs(), key=lambda each: (each[0], each[1].pid))
        if not programs:
            return None
        run_id, process = self.rng.choice(programs)
        try:
            process.kill()
        except psutil.Error:
            return None
        return run_id

    def _kill_node(self) -> str | None:
        names = sorted(self._list_busy() - self._down)
        if not names or len(self._down) >= self.most_down:
            return None
        name = self.rng.choice(names)
        is_told = not self._is_silent and self.rng.random() < 0.5
        self._down.add(name)
        self.site.cluster.kill_node(name, tell=is_told)
        self._later(_NODE_DOWN_S, lambda: self._revive(name))
        return f"{name}, {'told' if is_told else 'silent'}"

    def _list_busy(self) -> set[str]:
        if self._is_silent:
            return set(self.site.cluster.node_names)
        busy = self.site.ask("squeue", "-h", "-t", "R", "-o", "%N").split()
        return set(self.site.ask("scontrol", "show", "hostnames", ",".join(busy)).split()) if busy else set()

    def _revive(self, name: str) -> None:
        self.site.cluster.start_node(name)
        self._down.discard(name)

    def _preempt(self) -> str | None:
        if self._is_silent:
            return None
        seconds = self.rng.randint(*_URGENT_S)
        cpus = self.site.cluster.shape.cpus
        words = ["--partition=urgent", "--nodes=1", f"--cpus-per-task={cpus}", "--job-name=urgent", "--chdir=/"]
        try:
            self.site.cluster.run("sbatch", *words, "--output=/dev/null", f"--wrap=sleep {seconds}")
        except ExternalError:
            return None
        return f"a node for {seconds} s"

    def _stop_controller(self, *, hard: bool) -> str | None:
        if self._is_silent:
            return None
        self._is_silent = True
        self.site.cluster.stop_controller(hard=hard)
        self._later(_CONTROLLER_DOWN_S, self._start_controller)
        return "slurmctld"

    def _start_controller(self) -> None:
        self.site.cluster.start_controller()
        self._is_silent = False

    def _fill(self) -> str | None:
        if self._is_full:
            return None
        self._is_full = True
        self.site.fill_scratch()
        self._later(_FULL_S, self._free)
        return "scratch"

    def _free(self) -> None:
        self.site.free_scratch()
        self._is_full = False

    def _later(self, bounds: tuple[float, float], repair: Callable[[], None]) -> None:
        self._mends.append((time.monotonic() + self.rng.uniform(*bounds), repair))
