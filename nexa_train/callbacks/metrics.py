"""`metrics.jsonl`: a line for each log of the loss and each evaluation, and the same for people."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from typing import Any

from nexa_contracts.clock import Clock
from nexa_infra.storage.atomic import append_line
from nexa_train.backends.recipe import TokenCount
from nexa_train.callbacks.base import Callback
from nexa_train.evaluation import EvaluationReading, read_evaluation
from nexa_train.job import Job
from nexa_train.throughput import ModelCost, estimate_mfu, find_device_peak

logger = logging.getLogger(__name__)

_NOT_METRICS = frozenset({"epoch", "step", "num_tokens", "num_input_tokens_seen", "train_tokens_per_second"})
_NOT_SHOWN = frozenset({"grad_norm", "eval_perplexity"})


@dataclass(frozen=True, slots=True)
class Meter:
    """What turns steps into tokens and arithmetic."""

    count_tokens: TokenCount
    cost: ModelCost
    reading: EvaluationReading


class MetricsCallback(Callback):
    """Writes the metrics of the first process; time for checkpoints and evaluations is not counted as training."""

    def __init__(self, job: Job, *, meter: Meter, clock: Clock) -> None:
        self.last: dict[str, float] = {}
        """Newest finite value of every metric."""
        self.tokens = 0
        self.evaluated_step: int | None = None
        """The step of the newest evaluation of this attempt."""
        self._job = job
        self._meter = meter
        self._clock = clock
        self._mark_s = clock.monotonic_s()
        self._mark_tokens: int | None = None
        self._training_s = 0.0
        self._trained_tokens = 0

    def on_train_begin(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        """Start the clock."""
        self._mark_s = self._clock.monotonic_s()

    def on_log(self, _args: Any, state: Any, _control: Any, *, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Append a line."""
        if logs is None:
            return
        if "eval_loss" in logs:
            self.evaluated_step = state.global_step
        if not state.is_world_process_zero:
            return
        if "eval_loss" in logs:
            self._append(state, read_evaluation(logs, self._meter.reading))
            self._mark_s = self._clock.monotonic_s()
        elif "loss" in logs:
            self._append(state, self._training_metrics(state, logs))

    def on_save(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        """Leave the time of writing the checkpoint out."""
        self._mark_s = self._clock.monotonic_s()

    def _training_metrics(self, state: Any, logs: dict[str, float]) -> dict[str, float | None]:
        now_s = self._clock.monotonic_s()
        self.tokens = self._meter.count_tokens(state, logs)
        values: dict[str, float | None] = {name: value for name, value in logs.items() if name not in _NOT_METRICS}
        values["tokens_per_s"] = values["mfu"] = None  # a first log after a start has nothing to count from
        if self._mark_tokens is not None and now_s > self._mark_s:
            self._training_s += now_s - self._mark_s
            self._trained_tokens += self.tokens - self._mark_tokens
            speed = (self.tokens - self._mark_tokens) / (now_s - self._mark_s)
            values |= {"tokens_per_s": speed, "mfu": self._mfu(speed)}
        self._mark_s, self._mark_tokens = now_s, self.tokens
        return values

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens a second over the whole attempt, without its first log; None when there was no second one."""
        return self._trained_tokens / self._training_s if self._training_s > 0 else None

    @property
    def mfu(self) -> float | None:
        """Share of the GPUs' peak over the whole attempt; None where it is unknown."""
        speed = self.tokens_per_s
        return None if speed is None else self._mfu(speed)

    def _mfu(self, tokens_per_s: float) -> float | None:
        return estimate_mfu(tokens_per_s, self._meter.cost, peak_tflops=find_device_peak(), gpus=self._job.world_size)

    def _append(self, state: Any, values: dict[str, float | None]) -> None:
        shown = {name: None if value is None or not math.isfinite(value) else value for name, value in values.items()}
        self.last |= {name: value for name, value in shown.items() if value is not None}
        line = {
            "time": self._clock.now().isoformat(timespec="milliseconds"),
            "attempt": self._job.attempt,
            "step": state.global_step,
            "epoch": round(state.epoch or 0.0, 4),
            "tokens": self.tokens,
            **shown,
        }
        append_line(self._job.run_dir.metrics, json.dumps(line).encode())
        logger.info("step %d/%d  %s", state.global_step, state.max_steps, _for_people(values))


def _for_people(values: dict[str, float | None]) -> str:
    parts = []
    for name, value in values.items():
        if value is not None and name not in _NOT_SHOWN:
            text = f"{value:,.0f}" if name == "tokens_per_s" else f"{value:.4g}"
            parts.append(f"{name} {text}")
    return "  ".join(parts)
