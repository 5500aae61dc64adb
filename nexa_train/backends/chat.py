"""Supervised fine-tuning on conversations."""

from __future__ import annotations

from typing import Any

from nexa_contracts.errors import ConfigError, MissingExtra
from nexa_contracts.training import TrainConfig
from nexa_infra.storage.layout import Tiers
from nexa_train.backends.recipe import Recipe, count_reported_tokens
from nexa_train.data import StagedDataset, is_held_out, read_rows, stage_dataset
from nexa_train.evaluation import EvaluationReading
from nexa_train.job import Job
from nexa_train.model import create_model
from nexa_train.seeds import set_seeds
from nexa_train.tokenizer import load_tokenizer, train_tokenizer, wrap_tokenizer

_GENERATION_MARK = "{% generation %}"


def prepare_chat(job: Job) -> Recipe:
    """Return the parts of a training on conversations.

    Only the assistant's words are learnt where the chat template says which they are, else every token.

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
        from trl import SFTConfig, SFTTrainer
    except ImportError as error:
        raise MissingExtra("train", package="trl", needed_for="data.format chat") from error

    tokenizer = choose_tokenizer(job.tiers, dataset, train)
    set_seeds(train.training.seed)
    model = create_model(train, end_id=tokenizer.eos_token_id, pad_id=tokenizer.pad_token_id)
    return Recipe(
        trainer_class=SFTTrainer,
        arguments_class=SFTConfig,
        model=model,
        tokenizer=tokenizer,
        train_data=Dataset.from_list(train_rows),
        eval_data=Dataset.from_list(eval_rows) if eval_rows else None,
        count_tokens=count_reported_tokens,
        reading=EvaluationReading(is_likelihood=True),
        arguments={
            "max_length": train.data.block_size,
            "assistant_only_loss": _GENERATION_MARK in (tokenizer.chat_template or ""),
        },
    )


def split_rows(dataset: StagedDataset, train: TrainConfig) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows to train on and those held out.

    Raises:
        ConfigError: a row is not of the format, or none is left to train on.
    """
    train_rows: list[dict[str, Any]] = []
    eval_rows: list[dict[str, Any]] = []
    for row in read_rows(dataset, train.data):
        (eval_rows if is_held_out(row, train.data.eval_fraction) else train_rows).append(row)
    if not train_rows:
        raise ConfigError(
            f"dataset {dataset.manifest.label}: no row to train on; {len(eval_rows)} are held out",
            hint="lower data.eval_fraction or raise data.max_rows",
        )
    return train_rows, eval_rows


def choose_tokenizer(tiers: Tiers, dataset: StagedDataset, train: TrainConfig) -> Any:
    """Return the model's own tokenizer, or for new weights one trained on the dataset.

    Raises:
        ConfigError: there is no usable tokenizer under the model's path.
        StorageError: scratch cannot be written.
    """
    if train.model.scratch is None:
        return load_tokenizer(train.model)
    return wrap_tokenizer(train_tokenizer(tiers, dataset, train.data, vocab_size=train.model.scratch.vocab_size))
