"""The recommended interval loses least, and what it is said to lose is what happens."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_infra.monitoring.checkpoint_interval import (
    Failing,
    Fleet,
    compare_intervals,
    estimate_lost,
    recommend_interval,
)

MTTF = st.floats(1.0, 1e9)
SHARE = st.floats(1e-6, 0.5)


@given(MTTF, SHARE, st.floats(0, 0.5))
def test_half_and_double_never_lose_less_than_the_recommended(mttf_s: float, save: float, restart: float) -> None:
    failing = Failing(save_s=save * mttf_s, mttf_s=mttf_s, restart_s=restart * mttf_s)
    half, best, double = (choice.lost for choice in compare_intervals(failing))
    assert best <= half + 1e-9
    assert best <= double + 1e-9


@given(st.floats(1e-9, 1e12), st.floats(1e-9, 1e12), st.floats(1e-9, 1e12), st.floats(0, 1e12))
def test_a_loss_is_a_share_whatever_the_numbers(interval_s: float, save: float, mttf_s: float, restart: float) -> None:
    failing = Failing(save_s=save, mttf_s=mttf_s, restart_s=restart)
    assert 0 <= estimate_lost(interval_s, failing) <= 1
    assert recommend_interval(failing) > 0


def test_a_rare_failure_gives_youngs_interval() -> None:
    assert recommend_interval(Failing(save_s=1.0, mttf_s=1e8)) == pytest.approx(math.sqrt(2e8), rel=1e-3)


@pytest.mark.parametrize(("save_s", "restart_s"), [(30.0, 600.0), (5.0, 120.0)])
def test_the_estimate_is_what_a_simulation_of_failures_loses(save_s: float, restart_s: float) -> None:
    failing = Failing(save_s=save_s, mttf_s=3.1 * 3600, restart_s=restart_s)
    interval_s = recommend_interval(failing)
    assert estimate_lost(interval_s, failing) == pytest.approx(simulate(interval_s, failing), abs=0.01)


def simulate(interval_s: float, failing: Failing, *, intervals: int = 100_000) -> float:
    numbers = random.Random(7)
    wall_s, next_failure_s = 0.0, numbers.expovariate(1 / failing.mttf_s)
    for _ in range(intervals):
        needed_s = interval_s + failing.save_s
        while wall_s + needed_s > next_failure_s:
            wall_s = next_failure_s
            needed_s = failing.restart_s + interval_s + failing.save_s
            next_failure_s = wall_s + numbers.expovariate(1 / failing.mttf_s)
        wall_s += needed_s
    return 1 - intervals * interval_s / wall_s


def test_no_failure_is_a_bound_and_no_hours_are_no_evidence() -> None:
    assert Fleet(failures=0, node_hours=0.0).node_mttf_s is None
    assert Fleet(failures=0, node_hours=300.0).node_mttf_s == 100 * 3600
    assert Fleet(failures=6, node_hours=300.0).node_mttf_s == 50 * 3600
    assert [Fleet(failures, 300.0).is_enough for failures in (0, 4, 5)] == [False, False, True]
