"""`heartbeat.json`: the last sign of life of the program in the job."""

from __future__ import annotations

import json
import logging
import os
from typing import Any

from nexa_contracts.clock import Clock
from nexa_contracts.errors import StorageError
from nexa_infra.storage.atomic import storage_errors
from nexa_train.callbacks.base import Callback
from nexa_train.job import Job

logger = logging.getLogger(__name__)

INTERVAL_S = 2.0


class HeartbeatCallback(Callback):
    """Beats between steps and between batches of an evaluation, at most every two seconds; a hung step stops it."""

    def __init__(self, job: Job, *, clock: Clock) -> None:
        self._job = job
        self._clock = clock
        self._beaten_s = float("-inf")
        self._batches = 0

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Beat."""
        self._beat(state)

    def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Beat, when the last time is long enough ago."""
        self._beat(state)

    def on_prediction_step(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Count the batch, and beat when the last time is long enough ago."""
        self._batches += 1
        self._beat(state)

    def say_last(self, state: Any) -> None:
        """Beat once more for a training that failed: two failures at the same step are the same one."""
        self._beaten_s = float("-inf")
        try:
            self._beat(state)
        except StorageError as error:
            logger.warning("the last step is not told: %s", error)

    def _beat(self, state: Any) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._beaten_s < INTERVAL_S or not self._job.is_main:
            return
        self._beaten_s = now_s
        beat = {
            "time": self._clock.now().isoformat(timespec="milliseconds"),
            "monotonic_s": now_s,
            "pid": os.getpid(),
            "step": state.global_step,
            "max_steps": state.max_steps,
            "batches": self._batches,
            "attempt": self._job.attempt,
        }
        path = self._job.run_dir.heartbeat
        # Renamed without a flush: a beat that a power cut takes says nothing that the power cut does not.
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with storage_errors(path, "writing"):
            temporary.write_text(json.dumps(beat) + "\n")
            temporary.replace(path)
