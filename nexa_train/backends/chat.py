"""Supervised fine-tuning on conversations."""

from __future__ import annotations

from nexa_contracts.errors import MissingExtra
from nexa_train.backends.conversations import prepare_parts
from nexa_train.backends.recipe import Recipe, count_reported_tokens
from nexa_train.evaluation import EvaluationReading
from nexa_train.job import Job

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
    try:
        from trl import SFTConfig, SFTTrainer
    except ImportError as error:
        raise MissingExtra("train", package="trl", needed_for="data.format chat") from error

    parts = prepare_parts(job)
    return Recipe(
        trainer_class=SFTTrainer,
        arguments_class=SFTConfig,
        model=parts.model,
        tokenizer=parts.tokenizer,
        train_data=parts.train_data,
        eval_data=parts.eval_data,
        count_tokens=count_reported_tokens,
        reading=EvaluationReading(is_likelihood=True),
        arguments={
            "max_length": job.train.data.block_size,
            "assistant_only_loss": _GENERATION_MARK in (parts.tokenizer.chat_template or ""),
        },
    )
