"""Stopping a training that diverges, before it saves what it has become."""

from __future__ import annotations

import logging
import math
from typing import Any

from nexa_contracts.run import FailureNote
from nexa_train.callbacks.base import Callback
from nexa_train.divergence import DivergenceJudge

logger = logging.getLogger(__name__)

_EVIDENCE_LINES = 5


class DivergenceCallback(Callback):
    """Stops a diverging training before its checkpoint is saved, so that the newest one is still good.

    All processes see the same mean loss, so all stop together.
    """

    def __init__(self, factor: float | None) -> None:
        self.failure: FailureNote | None = None
        self._factor = factor
        self._judge = DivergenceJudge(factor)

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Take in the losses before a resumption."""
        self._judge = DivergenceJudge(self._factor)
        for entry in state.log_history:
            if "loss" in entry:
                self._judge.judge(entry["step"], entry["loss"])

    def on_log(self, args: Any, state: Any, control: Any, *, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Judge the loss."""
        if self.failure is not None or logs is None or "loss" not in logs:
            return
        reason = self._judge.judge(state.global_step, logs["loss"])
        # The loss was computed before the step's update, the gradient went into it. With fp16 such a step is left out.
        if reason is None and not args.fp16 and not math.isfinite(logs.get("grad_norm", 0.0)):
            reason = f"the gradient is {logs['grad_norm']} at step {state.global_step}"
        if reason is None:
            return
        history = [entry for entry in state.log_history if "loss" in entry][-_EVIDENCE_LINES:]
        evidence = tuple(f"step {entry['step']}: loss {entry['loss']:.6g}" for entry in history)
        self.failure = FailureNote(kind="diverged", message=reason, evidence=evidence)
        logger.error("%s; stopping. Lower training.learning_rate or training.max_grad_norm", reason)
        control.should_training_stop = True
        control.should_save = False
        control.should_evaluate = False
