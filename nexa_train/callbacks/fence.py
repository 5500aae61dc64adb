"""A training whose run has gone to a later attempt notices it, and ends without a trace."""

from __future__ import annotations

from typing import Any

from nexa_contracts.clock import Clock
from nexa_infra.storage.artifacts import discard_folder
from nexa_infra.storage.layout import SAVING_PREFIX
from nexa_train.callbacks.base import Callback
from nexa_train.job import Job

INTERVAL_S = 2.0


class FenceCallback(Callback):
    """Looks before every checkpoint, and else every two seconds; comes after the callback that asks for checkpoints.

    A process that slept finds those two seconds over, so it looks before it writes anything.
    """

    def __init__(self, job: Job, *, clock: Clock) -> None:
        self._job = job
        self._clock = clock
        self._looked_s = float("-inf")

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Look, and remove what earlier attempts were saving when they were cut off."""
        self._look()
        if self._job.fence is not None and state.is_world_process_zero:
            for folder in self._job.checkpoints.glob(f"{SAVING_PREFIX}*"):
                if folder != self._job.saving:
                    discard_folder(folder)

    def on_step_end(self, _args: Any, _state: Any, control: Any, **_: Any) -> None:
        """Look, when something is about to be saved or the last time is long enough ago."""
        if control.should_save:
            self._look()
        self._look_if_due()

    def on_log(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        """Look, when the process slept between the end of the step and what is written of it."""
        self._look_if_due()

    def _look_if_due(self) -> None:
        if self._clock.monotonic_s() - self._looked_s >= INTERVAL_S:
            self._look()

    def _look(self) -> None:
        self._looked_s = self._clock.monotonic_s()
        self._job.check_fence()
