"""What fine-tuning on conversations and on preferences share: a model, its tokenizer, rows to train on and held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nexa_contracts.errors import ConfigError
from nexa_contracts.training import TrainConfig
from nexa_infra.storage.layout import Tiers
from nexa_train.data import StagedDataset, is_held_out, read_rows, stage_dataset
from nexa_train.job import Job
from nexa_train.model import create_model
from nexa_train.seeds import set_seeds
from nexa_train.tokenizer import load_tokenizer, train_tokenizer, wrap_tokenizer


@dataclass(frozen=True, slots=True)
class Parts:
    """A model and what it is trained on."""

    model: Any
    tokenizer: Any
    train_data: Any
    eval_data: Any
    """None: no row is held out."""


def prepare_parts(job: Job) -> Parts:
    """Return the model and the data of a job whose rows are trained on as they are.

    Raises:
        NotFound: the dataset is not registered.
        ConfigError: the data or the model is not as the config says.
        StorageError: a tier cannot be read or written.
    """
    from datasets import Dataset

    train = job.train
    dataset = stage_dataset(job.tiers, train.data.dataset)
    train_rows, eval_rows = _split_rows(dataset, train)
    tokenizer = _choose_tokenizer(job.tiers, dataset, train)
    set_seeds(train.training.seed)
    return Parts(
        model=create_model(train, end_id=tokenizer.eos_token_id, pad_id=tokenizer.pad_token_id),
        tokenizer=tokenizer,
        train_data=Dataset.from_list(train_rows),
        eval_data=Dataset.from_list(eval_rows) if eval_rows else None,
    )


def _split_rows(dataset: StagedDataset, train: TrainConfig) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
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


def _choose_tokenizer(tiers: Tiers, dataset: StagedDataset, train: TrainConfig) -> Any:
    # The model's own; for new weights one trained on the dataset.
    if train.model.scratch is None:
        return load_tokenizer(train.model)
    return wrap_tokenizer(train_tokenizer(tiers, dataset, train.data, vocab_size=train.model.scratch.vocab_size))
