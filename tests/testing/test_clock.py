from __future__ import annotations

from datetime import timedelta

from nexa_contracts.clock import SystemClock
from nexa_infra.testing.clock import ClockContract, FakeClock


class TestSystemClock(ClockContract):
    def make_clock(self) -> SystemClock:
        return SystemClock()


class TestFakeClock(ClockContract):
    def make_clock(self) -> FakeClock:
        return FakeClock()


def test_setting_the_wall_clock_back_does_not_move_monotonic_time() -> None:
    clock = FakeClock()
    now, monotonic_s = clock.now(), clock.monotonic_s()
    clock.jump(-3600)
    assert clock.now() - now == timedelta(hours=-1)
    assert clock.monotonic_s() == monotonic_s
