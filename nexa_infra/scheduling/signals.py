"""Signals as events that a loop waits for, instead of interruptions anywhere."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Self


class SignalQueue:
    """Collects signals from when it is entered; only for the main thread.

    The numbers come through a pipe that the interpreter writes to, so nothing is lost between a look and a wait, and
    children start with every signal at its default (a blocked mask, as for `sigtimedwait`, they would inherit).
    """

    def __init__(self, numbers: Sequence[signal.Signals]) -> None:
        self._numbers = tuple(numbers)
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in self._numbers:
            signal.signal(number, _note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in self._numbers:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.close(self._reader)
        os.close(self._writer)

    def fileno(self) -> int:
        """Return what `select` takes to wait for signals and for something else at once."""
        return self._reader

    def wait(self, timeout_s: float) -> frozenset[int]:
        """Return the numbers of the signals that arrived, as soon as there is one; none after `timeout_s`."""
        ready, _, _ = select.select([self._reader], [], [], max(0.0, timeout_s))
        return frozenset(os.read(self._reader, 4096)) if ready else frozenset()


def _note(number: int, frame: FrameType | None) -> None:
    """Do nothing: a handler must be there for the number to be written to the pipe."""
