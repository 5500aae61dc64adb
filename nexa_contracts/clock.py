"""The one source of time: wall time in UTC, and a monotonic clock that a change of the wall clock cannot move."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Time as an argument, so that tests need not wait for it."""

    def now(self) -> datetime:
        """Return the wall time, aware and in UTC. It may jump, backwards too."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds from an arbitrary start that never go back; only differences mean anything."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return after that many seconds."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the machine's wall time in UTC."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Return the machine's monotonic time in seconds."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep for real."""
        time.sleep(max(0.0, seconds))
