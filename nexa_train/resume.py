"""Where a training goes on from: the newest checkpoint whose every byte is as it was saved."""

from __future__ import annotations

import json
import logging
from typing import Any

from nexa_contracts.errors import ConfigError
from nexa_infra.storage.checkpoints import StartingPoint, choose_start
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


def find_start(job: Job) -> StartingPoint:
    """Return the newest verified checkpoint: the run's own before those of the run it resumes, scratch before durable.

    Raises:
        ConfigError: the run resumes another one, of which no checkpoint is whole.
        StorageError: a tier cannot be read.
    """
    start = choose_start(job.run_id, job.tiers, resumes=job.resume_from)
    for line in start.notes:
        logger.warning("%s", line)
    return start


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
