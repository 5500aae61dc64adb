"""Being asked to leave: a signal before training ends the program, one while it trains only raises a flag."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any, Self

ASKING = (signal.SIGTERM, signal.SIGUSR1)
"""The job entry sends them before the walltime ends, when a node is taken away, and on a cancel."""


class LeaveNow(BaseException):
    """Raised out of whatever is going on when there is nothing to save yet; not an error, so not an Exception."""


class LeaveRequest:
    """A context in which SIGTERM and SIGUSR1 ask to leave instead of killing."""

    def __init__(self) -> None:
        self.is_asked = False
        self.has_state = False
        """Whether there is something to save; until then leaving at once loses nothing."""
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in ASKING:
            self._previous[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.is_asked = True
        if not self.has_state:
            raise LeaveNow
