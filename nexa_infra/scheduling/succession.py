"""One attempt after the other, also where a cluster starts a job again while its earlier start still lives.

A controller that was killed forgets what it started last, and a node that it takes for dead may only be out of reach.
The later start raises the fence, and waits; the earlier one looks at the fence now and then, and ends its program.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from nexa_contracts.clock import Clock
from nexa_contracts.errors import StorageError
from nexa_infra.scheduling.process_tree import ProcessMark, find_process, is_alive, read_boot_id
from nexa_infra.storage.fence import Fence, Fenced

_LOOK_S = 5.0
"""Between two looks at the fence: each costs the shared tier a question."""
NOTICE_S = 2 * _LOOK_S + 2.0
"""After so long whoever lives has seen the fence, and has ended its program."""


class FenceLook:
    """Looks at the fence of an attempt, not too often."""

    def __init__(self, fence: Fence | None, *, clock: Clock) -> None:
        """Without a fence no other attempt can begin, and nothing is looked at."""
        self._fence = fence
        self._clock = clock
        self._looked_s = clock.monotonic_s()

    @property
    def next_look_s(self) -> float:
        """When it wants to look again, by the monotonic clock."""
        return float("inf") if self._fence is None else self._looked_s + _LOOK_S

    def is_raised(self) -> bool:
        """Look, if it is time to, and return whether a later attempt has the run; no if nobody can say."""
        if self._fence is None or self._clock.monotonic_s() < self.next_look_s:
            return False
        self._looked_s = self._clock.monotonic_s()
        try:
            self._fence.check()
        except Fenced:
            return True
        except StorageError:
            return False
        return False


def note_process() -> dict[str, Any]:
    """Return what tells others later whether this process has ended."""
    process = find_process(os.getpid())
    ticks = None if process is None else process.mark.start_ticks
    return {"boot_id": read_boot_id(), "namespace": _read_namespace(), "pid": os.getpid(), "start_ticks": ticks}


def has_ended(noted: Mapping[str, Any]) -> bool:
    """Whether a process is known to have ended; of one on another machine nothing is known."""
    if (noted.get("boot_id"), noted.get("namespace")) != (read_boot_id(), _read_namespace()):
        return False
    pid, ticks = noted.get("pid"), noted.get("start_ticks")
    return isinstance(pid, int) and isinstance(ticks, int) and not is_alive(ProcessMark(pid=pid, start_ticks=ticks))


def _read_namespace() -> str:
    # A job may have a table of processes of its own, in which the same number is another process.
    return os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - no path, but a name
