"""When a training has failed: its loss is not a number, or has run away."""

from __future__ import annotations

import math
from dataclasses import dataclass

SMOOTHING = 0.8
"""Weight of the past in the smoothed loss: about five logs."""


@dataclass(slots=True)
class DivergenceJudge:
    """Judges losses in the order they are logged."""

    factor: float | None
    _smoothed: float | None = None
    _lowest: float = math.inf

    def judge(self, step: int, loss: float) -> str | None:
        """Return what is wrong in one sentence; None while all is well."""
        if not math.isfinite(loss):
            return f"the loss is {loss} at step {step}"
        past = loss if self._smoothed is None else self._smoothed
        self._smoothed = SMOOTHING * past + (1 - SMOOTHING) * loss
        self._lowest = min(self._lowest, self._smoothed)
        if self.factor is not None and self._smoothed > self.factor * self._lowest > 0:
            return (
                f"the smoothed loss is {self._smoothed:.4g} at step {step}, "
                f"more than {self.factor:g} times its lowest, {self._lowest:.4g}"
            )
        return None
