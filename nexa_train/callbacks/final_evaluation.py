"""The evaluation at the end, while training still counts as going on: trackers close their run with it."""

from __future__ import annotations

from typing import Any

from nexa_train.callbacks.base import Callback


class FinalEvaluationCallback(Callback):
    """Asks for an evaluation after the last step."""

    def on_step_end(self, _args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask, if this was the last step."""
        if state.global_step >= state.max_steps:
            control.should_evaluate = True
