"""Watching a program until it ends: what arrives for it, how long it may take, and whether it still makes steps."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nexa_contracts.clock import Clock
from nexa_contracts.units import format_duration
from nexa_infra.process import Child
from nexa_infra.scheduling.ending import Leave
from nexa_infra.scheduling.listening import Listener
from nexa_infra.scheduling.process_tree import end_tree, list_members, reap_adopted
from nexa_infra.scheduling.records import Failure
from nexa_infra.scheduling.stacks import StackReader
from nexa_infra.scheduling.stalls import StallWatch
from nexa_infra.scheduling.succession import FenceLook
from nexa_infra.storage.fence import Fence

LEFTOVER_GRACE_S = 5.0
"""For what the program left running when it ended."""
_PRUNING_PAUSE_S = 0.5


class Pruning(Protocol):
    """Who judges a trial by the values it reports."""

    @property
    def pruned_at_step(self) -> int | None:
        """The step from which it is not worth going on; None while it is."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long a program may take."""

    walltime_s: float
    grace_s: float
    """Between asking it to leave and ending it."""
    stall_s: float | None
    """Without a step; None: not watched."""


@dataclass(frozen=True, slots=True)
class Watched:
    """How a program ended, as seen from outside."""

    returncode: int
    """Negative for the number of a signal."""
    leave: Leave | None
    """Why it was told to leave; None when it was not."""
    stall: Failure | None
    """That it was ended because it made no step any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """The watch over one program."""

    token: str
    limits: Limits
    stall: StallWatch
    stacks: StackReader
    log: Path
    secrets: tuple[str, ...]
    note_leaving: Callable[[Leave], None] | None
    clock: Clock
    pruning: Pruning | None = None
    fence: Fence | None = None
    """Of the attempt, where a later one may begin while this one goes on."""

    def run(self, child: Child, listener: Listener) -> Watched:
        """Return how the program ended."""
        leave: Leave | None = None
        deadline_s = self.clock.monotonic_s() + self.limits.walltime_s
        fence = FenceLook(self.fence, clock=self.clock)
        while (returncode := child.poll()) is None:
            until_s = self._next_look_s(deadline_s) if leave is None else deadline_s
            heard = listener.listen(min(until_s, fence.next_look_s) - self.clock.monotonic_s())
            if heard.has_child_ended:
                reap_adopted(but=child.pid)
            for number in heard.passed_on:
                child.send_signal(number)
            if fence.is_raised():
                return Watched(self._end_now(child, grace_s=0.0), leave, None)
            if leave is None and self.stall.is_stalled() and child.poll() is None:
                return self._end_stalled(child)
            is_late = self.clock.monotonic_s() >= deadline_s
            wanted = heard.leave or (Leave.TIMED_OUT if is_late else None) or self._ask_pruning()
            if wanted is None:
                continue
            if leave is None:
                if listener.has_to_tell(wanted):
                    child.send_signal(signal.SIGTERM)
                leave = self._learn_why(listener, wanted)
                deadline_s = self.clock.monotonic_s() + listener.choose_grace_s(self.limits.grace_s)
            elif wanted is Leave.CANCELLED:
                leave = wanted
            elif is_late:
                # The grace is over.
                end_tree(self.token, clock=self.clock, grace_s=0.0, root=os.getpid())
                deadline_s = self.clock.monotonic_s() + self.limits.grace_s
        return Watched(returncode, leave, None)

    def _next_look_s(self, deadline_s: float) -> float:
        look_s = min(deadline_s, self.stall.next_look_s)
        return look_s if self.pruning is None else min(look_s, self.clock.monotonic_s() + _PRUNING_PAUSE_S)

    def _ask_pruning(self) -> Leave | None:
        is_pruned = self.pruning is not None and self.pruning.pruned_at_step is not None
        return Leave.PRUNED if is_pruned else None

    def _learn_why(self, listener: Listener, wanted: Leave) -> Leave:
        if wanted is Leave.PRUNED:
            return wanted  # it is ours, and no news to whoever starts the job again
        if self.note_leaving is not None:
            self.note_leaving(wanted)
        why = listener.explain(wanted)
        if why is not wanted and self.note_leaving is not None:
            self.note_leaving(why)
        return why

    def _end_stalled(self, child: Child) -> Watched:
        # It cannot save what it had: it does not come to the end of its step. So it is not asked to.
        seen = self.stall.progress
        members = list_members(self.token, root=os.getpid())
        pids = sorted(members, key=lambda pid: (pid != seen.pid, pid))
        evidence = self.stacks.dump(pids, self.log, secrets=self.secrets)
        after = "since its start" if seen.step is None else f"after step {seen.step}"
        stall = Failure(
            "stalled", f"no step for {format_duration(self.limits.stall_s or 0.0)} {after}; ended", evidence
        )
        return Watched(self._end_now(child, grace_s=LEFTOVER_GRACE_S), None, stall)

    def _end_now(self, child: Child, *, grace_s: float) -> int:
        while (returncode := child.poll()) is None:
            end_tree(self.token, clock=self.clock, grace_s=grace_s, root=os.getpid())
            reap_adopted(but=child.pid)
        return returncode
