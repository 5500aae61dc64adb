"""Direct preference optimisation on pairs of answers."""

from __future__ import annotations

import copy

from nexa_contracts.errors import MissingExtra
from nexa_train.backends.conversations import prepare_parts
from nexa_train.backends.recipe import Recipe, count_reported_tokens
from nexa_train.evaluation import EvaluationReading
from nexa_train.job import Job


def prepare_preference(job: Job) -> Recipe:
    """Return the parts of a training on preferences.

    The reference model is the model before training: under adapters the frozen base, else a copy.

    Raises:
        NotFound: the dataset is not registered.
        ConfigError: the data or the model is not as the config says.
        MissingExtra: trl is not installed.
        StorageError: a tier cannot be read or written.
    """
    try:
        from trl import DPOConfig, DPOTrainer
    except ImportError as error:
        raise MissingExtra("train", package="trl", needed_for="data.format preference") from error

    train, parts = job.train, prepare_parts(job)
    return Recipe(
        trainer_class=DPOTrainer,
        arguments_class=DPOConfig,
        model=parts.model,
        tokenizer=parts.tokenizer,
        train_data=parts.train_data,
        eval_data=parts.eval_data,
        count_tokens=count_reported_tokens,
        reading=EvaluationReading(is_likelihood=False),
        arguments={"max_length": train.data.block_size, "beta": train.training.dpo_beta},
        trainer_options={} if train.lora is not None else {"ref_model": copy.deepcopy(parts.model)},
    )
