"""Where a training goes on from: the newest checkpoint whose every byte is as it was saved."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexa_contracts.errors import ConfigError
from nexa_infra.storage.checkpoints import find_resumable
from nexa_train.job import Job

logger = logging.getLogger(__name__)

STATE_NAME = "trainer_state.json"
_SHAPE_KEYS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
)


@dataclass(frozen=True, slots=True)
class StartingPoint:
    """A verified checkpoint, or none; and those passed over, each with the reason."""

    folder: Path | None = None
    step: int = 0
    origin: str | None = None
    """As `<run_id> step <n>`."""
    skipped: tuple[str, ...] = ()


def find_start(job: Job) -> StartingPoint:
    """Return the newest verified checkpoint: the run's own before those of the run it resumes, scratch before durable.

    Raises:
        ConfigError: the run resumes another one, of which no checkpoint is whole.
        StorageError: a tier cannot be read.
    """
    skipped: list[str] = []
    for run_id in dict.fromkeys(filter(None, (job.run_id, job.resume_from))):
        choice = find_resumable(run_id, job.tiers)
        skipped += choice.skipped
        if choice.path is None or choice.step is None:
            continue
        for line in choice.skipped:
            logger.warning("%s; using step %d", line, choice.step)
        return StartingPoint(choice.path, choice.step, f"{run_id} step {choice.step}", tuple(skipped))
    for line in skipped:
        logger.warning("%s; starting afresh", line)
    if job.resume_from is not None:
        raise ConfigError(
            f"run {job.resume_from}: no whole checkpoint to resume from; {'; '.join(skipped) or 'none was saved'}",
            hint="set checkpoints.every_steps, or start without --resume",
        )
    return StartingPoint(skipped=tuple(skipped))


def check_shape(start: StartingPoint, model_config: Any) -> None:
    """Return when the model has the checkpoint's shape.

    Raises:
        ConfigError: it has another; both are named.
    """
    path = None if start.folder is None else start.folder / "config.json"
    if path is None or not path.is_file():  # with adapters only those are saved
        return
    saved = json.loads(path.read_text())
    for key in _SHAPE_KEYS:
        asked = getattr(model_config, key, None)
        if saved.get(key, asked) != asked:
            raise ConfigError(
                f"checkpoint {start.origin}: {key} {saved[key]}; the config asks for {asked}",
                hint="resume with the same model, or start afresh",
            )
