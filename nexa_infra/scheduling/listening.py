"""What a job entry hears: whether its program shall leave and why, and which signals are the program's own."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from nexa_infra.scheduling.ending import Leave
from nexa_infra.scheduling.signals import SignalQueue

WATCHED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_PASSED_ON = (signal.SIGUSR1, signal.SIGUSR2)
_ASKING = frozenset({signal.SIGTERM, signal.SIGHUP})


@dataclass(frozen=True, slots=True)
class Heard:
    """What arrived since the last time."""

    leave: Leave | None = None
    passed_on: tuple[signal.Signals, ...] = ()
    has_child_ended: bool = False


class Listener:
    """A machine's own words: SIGINT means that a person cancelled the run, SIGTERM that something else wants it to
    leave; SIGUSR1 and SIGUSR2 are passed on to the program and mean what it likes.
    """

    def __init__(self, signals: SignalQueue) -> None:
        self._signals = signals

    def listen(self, timeout_s: float) -> Heard:
        """Return what arrived, as soon as something does; nothing after `timeout_s`."""
        return self._understand(self._signals.wait(timeout_s))

    def _understand(self, arrived: frozenset[int]) -> Heard:
        leave = Leave.CANCELLED if signal.SIGINT in arrived else Leave.ASKED if arrived & _ASKING else None
        passed_on = tuple(number for number in _PASSED_ON if number in arrived)
        return Heard(leave, passed_on, signal.SIGCHLD in arrived)

    def has_to_tell(self, leave: Leave) -> bool:  # noqa: ARG002 - others know more
        """Whether the program does not know yet that it has to leave."""
        return True

    def explain(self, leave: Leave) -> Leave:
        """Return why the program really has to leave, asked once it was told to; who sent a signal may know more."""
        return leave

    def choose_grace_s(self, least_s: float) -> float:
        """Return how long a program may take that was told to leave."""
        return least_s
