"""Charging the time between the Trainer's hooks: to batches, steps, checkpoints, or something else."""

from __future__ import annotations

from typing import Any

from nexa_infra.monitoring.run_events import BEGIN, SAVE, Bucket
from nexa_train.callbacks.base import Callback
from nexa_train.timeline import Timeline


class TimelineCallback(Callback):
    """Comes after the callbacks whose time it charges.

    The log of a step waits for the GPU, so its time is the step's. Reading past the batches that were trained on before
    a resumption happens before its first step.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._before_step = Bucket.DATA

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Charge what the Trainer did before: it loaded a checkpoint, or prepared itself."""
        is_resumed = state.global_step > 0
        self._timeline.charge(Bucket.RESTORE if is_resumed else Bucket.STARTUP)
        self._timeline.tell(BEGIN, state.global_step)
        if is_resumed:
            self._before_step = Bucket.RESTORE

    def on_step_begin(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        """Charge the wait for batches."""
        self._timeline.charge(self._before_step)
        self._before_step = Bucket.DATA

    def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Charge the step."""
        self._timeline.note_step(state.global_step)

    def on_log(self, _args: Any, _state: Any, _control: Any, *, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Charge the wait for what the step computed."""
        if logs is not None and "loss" in logs:
            self._timeline.charge(Bucket.COMPUTE)

    def on_evaluate(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        """Charge an evaluation."""
        self._timeline.charge(Bucket.OTHER)

    def on_save(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Charge a checkpoint, and tell at once what is kept from now on."""
        self._timeline.charge(Bucket.SAVE)
        self._timeline.tell(SAVE, state.global_step)

    def on_train_end(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        """Charge the end of the training."""
        self._timeline.charge(Bucket.OTHER)
