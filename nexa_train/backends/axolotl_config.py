"""The run config in Axolotl's words, with the same meaning.

Source: axolotl 0.19.0, axolotl.utils.schemas. Axolotl drops keys it does not know without a word, so they are checked
against its schema before a training starts, and by a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexa_contracts.errors import ConfigError
from nexa_contracts.training import DataConfig, LoraConfig, TrainConfig

REPORTER_KEYS = {
    "tensorboard": ("use_tensorboard", True),
    "wandb": ("wandb_project", None),
    "mlflow": ("mlflow_experiment_name", None),
    "trackio": ("trackio_project_name", None),
}
"""The key that switches a tracker on, and its value; None: the run's name."""


@dataclass(frozen=True, slots=True)
class AxolotlPaths:
    """The files and folders of one training."""

    base_model: str
    train_file: Path
    eval_file: Path | None
    output: Path
    prepared: Path
    resume_from: Path | None = None


def render_axolotl(train: TrainConfig, paths: AxolotlPaths, *, name: str) -> dict[str, Any]:
    """Return the Axolotl config of a training; it touches nothing.

    Raises:
        ConfigError: it asks for what Axolotl does not do.
    """
    if train.data.format == "preference" and train.data.eval_fraction > 0 and paths.eval_file is None:
        raise ConfigError("data.eval_fraction: no row is held out; raise it, or set it to 0")
    training = train.training
    config: dict[str, Any] = {
        "base_model": paths.base_model,
        "datasets": [_dataset(paths.train_file, train.data)],
        "dataset_prepared_path": str(paths.prepared),
        "output_dir": str(paths.output),
        "sequence_len": train.data.block_size,
        "sample_packing": False,
        "micro_batch_size": training.batch_size,
        "gradient_accumulation_steps": training.gradient_accumulation,
        "learning_rate": training.learning_rate,
        "lr_scheduler": training.lr_scheduler,
        "optimizer": training.optimizer,
        "weight_decay": training.weight_decay,
        "warmup_steps": training.warmup_steps,
        "max_grad_norm": training.max_grad_norm,
        # Left out, Axolotl would choose, and on a CPU it chooses fp16.
        "bf16": training.precision == "bf16",
        "fp16": training.precision == "fp16",
        "tf32": False,
        "gradient_checkpointing": training.gradient_checkpointing,
        "logging_steps": training.log_every,
        "seed": training.seed,
        # Rotating is the promoter's work: Axolotl's own counts checkpoints that may be damaged.
        "save_total_limit": None,
        **_length(train),
        **_evaluation(train, paths),
    }
    config |= {} if train.lora is None else _adapters(train.lora)
    if train.model.scratch is not None:
        config["reinit_weights"] = True
    elif train.model.revision is not None:
        config["revision_of_model"] = train.model.revision
    if train.data.format == "preference":
        config |= {"rl": "dpo", "rl_beta": training.dpo_beta}
    if paths.resume_from is not None:
        config["resume_from_checkpoint"] = str(paths.resume_from)
    for reporter in train.report_to:
        key, value = REPORTER_KEYS[reporter]
        config[key] = name if value is None else value
    return {key: value for key, value in config.items() if value is not None}


def _dataset(path: Path, data: DataConfig) -> dict[str, Any]:
    match data.format:
        case "text":
            return {"path": str(path), "ds_type": "json", "type": "completion", "field": data.text_field}
        case "chat":
            return {"path": str(path), "ds_type": "json", "type": "chat_template", "field_messages": "messages"}
        case "preference":
            return {"path": str(path), "split": "train", "type": "chatml.prompt_pairs"}


def _length(train: TrainConfig) -> dict[str, Any]:
    every = train.checkpoints.every_steps
    training = train.training
    if training.max_steps is not None:
        # num_epochs would end the training before max_steps where the data is short.
        return {"max_steps": training.max_steps, "num_epochs": 1_000_000, "save_steps": every or training.max_steps}
    saving = {"saves_per_epoch": 1} if every is None else {"save_steps": every}
    return {"num_epochs": training.epochs, **saving}


def _evaluation(train: TrainConfig, paths: AxolotlPaths) -> dict[str, Any]:
    if paths.eval_file is None:
        return {"val_set_size": 0.0}
    every = train.training.eval_every or train.training.max_steps
    schedule = {"evals_per_epoch": 1} if every is None else {"eval_steps": every}
    return {"test_datasets": [{**_dataset(paths.eval_file, train.data), "split": "train"}], **schedule}


def _adapters(lora: LoraConfig) -> dict[str, Any]:
    targets: dict[str, Any] = (
        {"lora_target_linear": True}
        if lora.target_modules == "all-linear"
        else {"lora_target_modules": list(lora.target_modules)}
    )
    return {
        "adapter": "lora",
        "lora_r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        **targets,
    }
