"""What the controller says of a job, and what a signal means in its light."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from nexa_infra.scheduling.ending import Leave

NEAR_END_S = 180.0
"""A SIGTERM so shortly before the time limit is that of the limit."""
QUEUED = frozenset({"PENDING", "REQUEUED"})
LIVING = frozenset({"RUNNING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "CONFIGURING"})
"""With SIGNALING, which a job is while its warning is on its way to it."""
_GIVEN_UP = QUEUED | {"PREEMPTED"}
_NODE_FAILED = frozenset({"NODE_FAIL", "BOOT_FAIL"})
_NODE_DOWN = "NodeDown"
"""The reason of a job that ends because a node of it went down, and that does not start again."""
_DURATION = re.compile(r"(?:([0-9]+)-)?([0-9]+):([0-9]{2}):([0-9]{2})")


@dataclass(frozen=True, slots=True)
class View:
    """What the controller says of a job."""

    state: str
    restarts: int
    is_preempted: bool
    run_s: float
    limit_s: float | None
    """None: without limit, or not known."""
    number: str = ""
    """The id of this very job; an array's task has one beside its `123_4`. Empty where it is not said."""
    host: str = ""
    """The node that its script runs on."""
    reason: str = ""

    @property
    def left_s(self) -> float | None:
        """Seconds to the time limit."""
        return None if self.limit_s is None else max(0.0, self.limit_s - self.run_s)

    def is_of(self, number: str, host: str) -> bool:
        """Whether this is said of the start under that number on that host; what is not known speaks for it."""
        return self.state not in QUEUED and self.number in ("", number) and (not host or self.host in ("", host))


def parse_view(fields: Mapping[str, str]) -> View:
    """Return the view in the fields of `scontrol show job`."""
    restarts = fields.get("Restarts", "")
    return View(
        state=fields.get("JobState", "").partition("+")[0],
        restarts=int(restarts) if restarts.isdecimal() else 0,
        is_preempted=fields.get("PreemptTime", "None") != "None",  # it is there wherever preemption is set up
        run_s=_parse_duration_s(fields.get("RunTime", "")) or 0.0,
        limit_s=_parse_duration_s(fields.get("TimeLimit", "")),
        number=fields.get("JobId", ""),
        host=fields.get("BatchHost", ""),
        reason=fields.get("Reason", ""),
    )


def explain_signal(heard: Leave, view: View | None, *, restarts: int, near_end_s: float = NEAR_END_S) -> Leave:
    """Return why a job of so many restarts was told to leave; a SIGTERM so near its time limit is of that limit.

    A job that is ending is COMPLETING, whatever ended it (22.05 shows nothing more): one that is to start again
    counts one restart more already, one that was preempted has a PreemptTime, one at its limit has run that long.
    What is left was cancelled. One whose node went down and that starts again looks as if it had been preempted.
    """
    if view is None or heard in (Leave.CANCELLED, Leave.NODE_FAILED):
        return Leave.PREEMPTED if heard is Leave.ASKED else heard
    if view.state in _NODE_FAILED or (view.state not in LIVING and view.reason == _NODE_DOWN):
        return Leave.NODE_FAILED
    if view.is_preempted or view.restarts > restarts or view.state in _GIVEN_UP:
        return Leave.PREEMPTED
    if view.state not in LIVING:
        return Leave.TIMED_OUT if view.left_s == 0.0 or view.state == "TIMEOUT" else Leave.CANCELLED
    if heard is not Leave.ASKED:
        return heard
    return Leave.TIMED_OUT if view.left_s is not None and view.left_s <= near_end_s else Leave.PREEMPTED


def _parse_duration_s(text: str) -> float | None:
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
