"""A clock that moves only when it is told to, and what every clock promises."""

# ruff: noqa: S101 - contract tests assert, wherever they live

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta

from nexa_contracts.clock import Clock


class FakeClock:
    """A clock for tests: sleeping moves it, nothing waits."""

    def __init__(self, start: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) -> None:
        self._now = start
        self._monotonic_s = 1000.0
        self.slept_s: list[float] = []

    def now(self) -> datetime:
        """Return the wall time it was brought to."""
        return self._now

    def monotonic_s(self) -> float:
        """Return the seconds it was moved by, from an arbitrary start."""
        return self._monotonic_s

    def sleep(self, seconds: float) -> None:
        """Move by that many seconds, and note them in `slept_s`."""
        self.slept_s.append(seconds)
        self.advance(max(0.0, seconds))

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self._now += timedelta(seconds=seconds)
        self._monotonic_s += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock by that many seconds, backwards when negative; the monotonic one does not see it."""
        self._now += timedelta(seconds=seconds)


class ClockContract(ABC):
    """What every Clock promises; a test class inherits it and says which clock."""

    @abstractmethod
    def make_clock(self) -> Clock:
        """Return a new clock."""

    def test_wall_time_is_aware_and_in_utc(self) -> None:
        """Two machines in two zones must agree on what a time means."""
        assert self.make_clock().now().utcoffset() == timedelta(0)

    def test_sleeping_moves_monotonic_time_at_least_that_far(self) -> None:
        """A time-out that is slept is not met again."""
        clock = self.make_clock()
        before = clock.monotonic_s()
        clock.sleep(2**-7)
        assert clock.monotonic_s() - before >= 2**-7

    def test_sleeping_a_negative_time_returns_at_once(self) -> None:
        """A deadline that has passed is not an error."""
        clock = self.make_clock()
        before = clock.monotonic_s()
        clock.sleep(-5.0)
        assert clock.monotonic_s() >= before
