"""What runs of ours within Axolotl: a plugin whose callbacks tell how the training goes, and end one that has to leave.

Axolotl's own interpreter loads it, with Axolotl's versions of everything: nothing is imported here that it lacks.
"""

from __future__ import annotations

import os
from typing import Any

from axolotl.integrations.base import BasePlugin

from nexa_contracts.clock import Clock, SystemClock
from nexa_train.backends.axolotl_metrics import append_metrics, read_entry
from nexa_train.callbacks.base import Callback
from nexa_train.callbacks.fence import FenceCallback
from nexa_train.callbacks.heartbeat import HeartbeatCallback
from nexa_train.callbacks.leaving import LeaveCallback
from nexa_train.callbacks.timeline import TimelineCallback
from nexa_train.job import Job, read_job
from nexa_train.signals import LeaveRequest
from nexa_train.timeline import Timeline


class NexaPlugin(BasePlugin):  # type: ignore[misc]
    """Axolotl makes one when it reads its config, and asks it for callbacks when it makes its Trainer."""

    def __init__(self) -> None:
        super().__init__()
        self._timeline: Timeline | None = None

    def add_callbacks_pre_trainer(self, cfg: Any, model: Any) -> list[Callback]:  # noqa: ARG002 - Axolotl's
        """Return those that may end the training, in the order in which they must speak."""
        job, clock = read_job(os.environ), SystemClock()
        self._timeline = Timeline(job, clock=clock)
        leave = LeaveRequest()
        leave.__enter__()  # for as long as this process lives
        return [
            HeartbeatCallback(job, clock=clock),
            LeaveCallback(leave),
            FenceCallback(job, clock=clock),
            _MetricsCallback(job, clock=clock),
        ]

    def add_callbacks_post_trainer(self, cfg: Any, trainer: Any) -> list[Callback]:  # noqa: ARG002 - Axolotl's
        """Return the one that charges what all the others took, Axolotl's own too."""
        return [] if self._timeline is None else [TimelineCallback(self._timeline)]

    def post_train_unload(self, cfg: Any) -> None:  # noqa: ARG002 - Axolotl's
        """Say that the training is over, its model saved."""
        if self._timeline is not None:
            self._timeline.__exit__(None, None, None)


class _MetricsCallback(Callback):
    def __init__(self, job: Job, *, clock: Clock) -> None:
        self._job = job
        self._clock = clock

    def on_log(self, _args: Any, state: Any, _control: Any, *, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if logs is not None and state.is_world_process_zero:
            append_metrics(self._job, state.global_step, read_entry(self._job, logs), clock=self._clock)
