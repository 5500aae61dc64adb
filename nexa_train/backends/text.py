"""Pretraining, and continued training, on blocks of text."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from nexa_contracts.training import TrainConfig
from nexa_train.backends.recipe import Recipe
from nexa_train.blocks import build_blocks, collate_blocks
from nexa_train.data import stage_dataset
from nexa_train.evaluation import EvaluationReading
from nexa_train.job import Job
from nexa_train.lean_imports import hidden_packages, resting_collector
from nexa_train.model import create_model
from nexa_train.seeds import set_seeds
from nexa_train.tokenizer import END_OF_TEXT, PADDING, SPECIAL_TOKENS, load_tokenizer, train_tokenizer, wrap_tokenizer

logger = logging.getLogger(__name__)


def prepare_text(job: Job) -> Recipe:
    """Return the parts of a training on text. What can be wrong with the data is found before torch is imported.

    Raises:
        NotFound: the dataset is not registered.
        ConfigError: the data or the model is not as the config says.
        StorageError: a tier cannot be read or written.
    """
    train = job.train
    dataset = stage_dataset(job.tiers, train.data.dataset)
    if train.model.scratch is not None:
        from tokenizers import Tokenizer

        path = train_tokenizer(job.tiers, dataset, train.data, vocab_size=train.model.scratch.vocab_size)
        backend = Tokenizer.from_file(str(path))
        end_id, pad_id = (SPECIAL_TOKENS.index(token) for token in (END_OF_TEXT, PADDING))
        blocks = build_blocks(job.tiers, dataset, train.data, tokenizer=backend, end_id=end_id)
        trainer_class, arguments_class = _import_trainer(train)
        tokenizer = wrap_tokenizer(path)
    else:
        trainer_class, arguments_class = _import_trainer(train)
        tokenizer = load_tokenizer(train.model)
        end_id, pad_id = tokenizer.eos_token_id, tokenizer.pad_token_id
        backend = tokenizer.backend_tokenizer
        blocks = build_blocks(job.tiers, dataset, train.data, tokenizer=backend, end_id=end_id)
    set_seeds(train.training.seed)
    model = create_model(train, end_id=end_id, pad_id=pad_id)
    held_out = blocks.load("eval")
    if len(held_out) == 0:
        logger.warning("no block is held out, so there will be no evaluation; raise data.eval_fraction")
    return Recipe(
        trainer_class=trainer_class,
        arguments_class=arguments_class,
        model=model,
        tokenizer=tokenizer,
        train_data=blocks.load("train"),
        eval_data=held_out if len(held_out) else None,
        count_tokens=partial(_count_tokens, tokens_per_step=tokens_per_step(train, world_size=job.world_size)),
        reading=EvaluationReading(is_likelihood=True, bytes_per_token=blocks.eval_bytes_per_token),
        arguments={"remove_unused_columns": False},
        trainer_options={"data_collator": collate_blocks},
    )


def tokens_per_step(train: TrainConfig, *, world_size: int) -> int:
    """Return how many tokens all processes together train on in one step."""
    training = train.training
    return train.data.block_size * training.batch_size * training.gradient_accumulation * world_size


def _count_tokens(state: Any, _logs: dict[str, float], *, tokens_per_step: int) -> int:
    return int(state.global_step) * tokens_per_step


def _import_trainer(train: TrainConfig) -> tuple[Any, Any]:
    unused = ["datasets"]
    if train.lora is None and train.model.scratch is not None:
        unused.append("peft")
    with resting_collector(), hidden_packages(*unused):
        from transformers.trainer import Trainer
        from transformers.training_args import TrainingArguments
    return Trainer, TrainingArguments
