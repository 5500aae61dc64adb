"""What Axolotl's Trainer logs, as lines of `metrics.jsonl`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from nexa_contracts.clock import Clock
from nexa_infra.storage.atomic import append_line
from nexa_train.evaluation import EvaluationReading, read_evaluation
from nexa_train.job import Job

_TOLD = ("loss", "grad_norm", "learning_rate")


def read_entry(job: Job, entry: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite metrics in an entry of the Trainer's log; none where it tells of something else."""
    chosen: Mapping[str, Any] = {name: entry[name] for name in _TOLD if name in entry}
    if "eval_loss" in entry:
        chosen = read_evaluation(entry, EvaluationReading(is_likelihood=job.train.data.format != "preference"))
    return {
        name: float(value) for name, value in chosen.items() if isinstance(value, int | float) and math.isfinite(value)
    }


def append_metrics(job: Job, step: int, values: Mapping[str, float], *, clock: Clock) -> None:
    """Append a line, if there is something to tell and this process is the one that does.

    Raises:
        StorageError: the run's folder cannot be written.
    """
    if values and job.is_main:
        line = {"time": clock.now().isoformat(timespec="milliseconds"), "attempt": job.attempt, "step": step}
        append_line(job.run_dir.metrics, json.dumps({**line, **values}).encode())
