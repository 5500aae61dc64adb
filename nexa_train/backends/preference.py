"""Direct preference optimisation on pairs of answers."""

from __future__ import annotations

import copy
from typing import Any

from nexa_contracts.errors import MissingExtra
from nexa_train.backends.chat import choose_tokenizer, split_rows
from nexa_train.backends.recipe import Recipe, count_reported_tokens
from nexa_train.data import stage_dataset
from nexa_train.evaluation import EvaluationReading
from nexa_train.job import Job
from nexa_train.model import create_model
from nexa_train.seeds import set_seeds


def prepare_preference(job: Job) -> Recipe:
    """Return the parts of a training on preferences.

    The reference model is the model before training: under adapters the frozen base, else a copy.

    Raises:
        NotFound: the dataset is not registered.
        ConfigError: the data or the model is not as the config says.
        MissingExtra: trl is not installed.
        StorageError: a tier cannot be read or written.
    """
    train = job.train
    dataset = stage_dataset(job.tiers, train.data.dataset)
    train_rows, eval_rows = split_rows(dataset, train)
    try:
        from datasets import Dataset
        from trl import DPOConfig, DPOTrainer
    except ImportError as error:
        raise MissingExtra("train", package="trl", needed_for="data.format preference") from error

    tokenizer = choose_tokenizer(job.tiers, dataset, train)
    set_seeds(train.training.seed)
    model = create_model(train, end_id=tokenizer.eos_token_id, pad_id=tokenizer.pad_token_id)
    options: dict[str, Any] = {}
    if train.lora is None:
        options["ref_model"] = copy.deepcopy(model)
    return Recipe(
        trainer_class=DPOTrainer,
        arguments_class=DPOConfig,
        model=model,
        tokenizer=tokenizer,
        train_data=Dataset.from_list(train_rows),
        eval_data=Dataset.from_list(eval_rows) if eval_rows else None,
        count_tokens=count_reported_tokens,
        reading=EvaluationReading(is_likelihood=False),
        arguments={"max_length": train.data.block_size, "beta": train.training.dpo_beta},
        trainer_options=options,
    )
