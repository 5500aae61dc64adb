"""What is said to one node of a distributed job, while it waits for a program of its own.

On a node that is alone a signal is the signal itself. On one of several it comes as its name on a line of stdin,
because srun itself makes a SIGKILL of a SIGTERM; a SIGTERM that Slurm sends has reached every process of the step
already.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Sequence

from nexa_infra.scheduling.signals import SignalQueue

PASSED_ON = {"TERM": signal.SIGTERM, "USR1": signal.SIGUSR1, "USR2": signal.SIGUSR2}
"""What the processes are told, by the name under which it comes on stdin."""
WATCHED = (signal.SIGCHLD, *PASSED_ON.values())


class Hearing:
    """Signals for the processes of this node, whichever way they come."""

    def __init__(self, signals: SignalQueue, *, is_alone: bool) -> None:
        self._signals = signals
        self._is_alone = is_alone
        self._is_open = not is_alone
        self._unread = b""

    def listen(self, timeout_s: float | None, *, also: Sequence[int] = ()) -> list[signal.Signals]:
        """Return the signals that are to be passed on, as soon as anything happens, if only the end of a child.

        `also` are files that something to read may come to.
        """
        told = [sys.stdin.fileno()] if self._is_open else []
        ready, _, _ = select.select([self._signals.fileno(), *told, *also], [], [], timeout_s)
        arrived = self._signals.wait(0.0)
        if self._is_alone:
            return [number for number in PASSED_ON.values() if number in arrived]
        return self._read() if set(told) & set(ready) else []

    def _read(self) -> list[signal.Signals]:
        chunk = os.read(sys.stdin.fileno(), 4096)
        self._is_open = bool(chunk)
        *lines, self._unread = (self._unread + chunk).split(b"\n")
        words = [line.decode(errors="replace") for line in lines]
        return [PASSED_ON[word] for word in words if word in PASSED_ON]
