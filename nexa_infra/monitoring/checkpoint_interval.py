"""How often to save: the interval at which saving and losing work together cost least (Young, Daly).

Source: J. T. Daly, A higher order estimate of the optimum checkpoint interval for restart dumps, Future Generation
Computer Systems 22 (2006) 303-312: the complete model of the wall time, and the interval that follows from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

ENOUGH_FAILURES = 5
"""With fewer, a rate may be off by a factor of three."""
_RULE_OF_THREE = 3.0
"""No event in n hours: with 95 % certainty the rate is below 3/n."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """How often machines failed, and for how long they were watched."""

    failures: int
    node_hours: float

    @property
    def node_mttf_s(self) -> float | None:
        """Mean seconds between failures of one node; a lower bound when none was seen, None without any hours."""
        if self.node_hours <= 0:
            return None
        return self.node_hours * 3600 / (self.failures or _RULE_OF_THREE)

    @property
    def is_enough(self) -> bool:
        """Whether the rate rests on enough failures."""
        return self.failures >= ENOUGH_FAILURES


@dataclass(frozen=True, slots=True)
class Choice:
    """An interval, and the share of the wall time that is lost with it."""

    name: str
    interval_s: float
    """Seconds of training between two saves."""
    lost: float
    """From 0 to 1: saving, work done again and restarts."""


@dataclass(frozen=True, slots=True)
class Failing:
    """What saving costs, and how often a job of all its nodes is cut off."""

    save_s: float
    mttf_s: float
    restart_s: float = 0.0


def recommend_interval(failing: Failing) -> float:
    """Return the seconds of training between two saves at which least is lost."""
    save_s, mttf_s = failing.save_s, failing.mttf_s
    if save_s >= 2 * mttf_s:
        return mttf_s
    ratio = math.sqrt(save_s / (2 * mttf_s))
    return math.sqrt(2 * save_s * mttf_s) * (1 + ratio / 3 + ratio * ratio / 9) - save_s


def estimate_lost(interval_s: float, failing: Failing) -> float:
    """Return the share of the wall time, from 0 to 1, that saving every `interval_s` seconds of training loses.

    Failures are taken as independent of each other and of time; they can come while saving and restarting too.
    """
    mttf_s = failing.mttf_s
    try:
        stretch = math.exp(failing.restart_s / mttf_s) * math.expm1((interval_s + failing.save_s) / mttf_s)
    except OverflowError:
        return 1.0
    return min(1.0, max(0.0, 1 - interval_s / (mttf_s * stretch)))


def compare_intervals(failing: Failing, *, current_s: float | None = None) -> tuple[Choice, ...]:
    """Return what half, once and twice the recommended interval lose, and the current one if there is one."""
    best_s = recommend_interval(failing)
    intervals = {"half": best_s / 2, "recommended": best_s, "double": best_s * 2}
    if current_s is not None:
        intervals["current"] = current_s
    return tuple(Choice(name, each, estimate_lost(each, failing)) for name, each in intervals.items())
