"""What a run trains: model, data, hyper-parameters, LoRA, checkpoints. One schema for every training stack."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from nexa_contracts.base import Name, Part


class ScratchModel(Part):
    """A Llama-style model with random weights, and the byte-level BPE tokenizer trained for it on the dataset."""

    architecture: Literal["llama"] = "llama"
    vocab_size: int = Field(default=2048, ge=260, le=1_000_000)
    hidden_size: int = Field(default=128, ge=8, le=65_536)
    num_layers: int = Field(default=2, ge=1, le=1024)
    num_heads: int = Field(default=4, ge=1, le=1024)
    num_kv_heads: int | None = Field(default=None, ge=1, le=1024)
    """None: as many as `num_heads`."""
    intermediate_size: int | None = Field(default=None, ge=8, le=1_000_000)
    """None: 8/3 of hidden_size, rounded up to a multiple of 8."""
    initializer_range: float = Field(default=0.02, gt=0, lt=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of the attention weights while training."""
    tie_embeddings: bool = True

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}")
        if self.num_kv_heads is not None and self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}")
        return self


class ModelConfig(Part):
    """Exactly one of `path` (a local folder or a hub id) and `scratch`."""

    path: str | None = Field(default=None, min_length=1, max_length=512)
    revision: str | None = Field(default=None, max_length=128)
    scratch: ScratchModel | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.path is None) == (self.scratch is None):
            raise ValueError("give exactly one of path and scratch")
        return self


class DataConfig(Part):
    """Which registered dataset is trained on, and how its rows are read."""

    dataset: Name
    """Name in the dataset registry: `name` for its newest version, `name_v2` for that one."""
    format: Literal["text", "chat", "preference"] = "text"
    text_field: str = "text"
    block_size: int = Field(default=128, ge=8, le=10_000_000)
    """Tokens per training sequence."""
    eval_fraction: float = Field(default=0.05, ge=0, le=0.5)
    """Share of rows held out for evaluation, chosen by a hash of each row, the same for every run."""
    max_rows: int | None = Field(default=None, ge=1)


class LoraConfig(Part):
    """Low-rank adapters instead of full weights."""

    rank: int = Field(default=16, ge=1, le=4096)
    alpha: int = Field(default=32, ge=1, le=65_536)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"


class TrainingConfig(Part):
    """How it trains. Batch size is per process; the effective one also counts accumulation and the world size."""

    backend: Literal["hf", "axolotl"] = "hf"
    max_steps: int | None = Field(default=None, ge=1)
    epochs: float | None = Field(default=None, gt=0)
    """Exactly one of max_steps and epochs."""
    batch_size: int = Field(default=8, ge=1)
    gradient_accumulation: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=3e-4, gt=0, le=100)
    lr_scheduler: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "cosine"
    warmup_steps: int = Field(default=0, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    optimizer: Literal["adamw_torch", "adamw_torch_fused", "adafactor", "sgd"] = "adamw_torch"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    gradient_checkpointing: bool = False
    dpo_beta: float = Field(default=0.1, gt=0)
    """Strength of the reference model; only for preference data."""
    log_every: int = Field(default=10, ge=1)
    eval_every: int | None = Field(default=None, ge=1)
    """None: once, at the end."""
    divergence_factor: float | None = Field(default=4.0, gt=1)
    """Stop when the smoothed loss exceeds this times its lowest; None only stops on NaN."""
    seed: int = Field(default=17, ge=0, le=2**32 - 1)

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.max_steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of max_steps and epochs")
        return self


class CheckpointConfig(Part):
    """When a checkpoint is saved to scratch and which ones are kept on durable. The final model always is."""

    every_steps: int | None = Field(default=None, ge=1)
    """None: only at the end and when asked to leave."""
    keep_last: int = Field(default=2, ge=1)
    """Verified checkpoints left on scratch to resume from."""
    promote_every_steps: int | None = Field(default=None, ge=1)
    """Checkpoints at these steps are promoted to durable beside training; a multiple of every_steps."""

    @model_validator(mode="after")
    def _promoted_are_saved(self) -> Self:
        if self.promote_every_steps is not None and (
            self.every_steps is None or self.promote_every_steps % self.every_steps
        ):
            raise ValueError("promote_every_steps must be a multiple of every_steps")
        return self


Reporter = Literal["wandb", "mlflow", "trackio", "tensorboard"]


class TrainConfig(Part):
    """Everything `nexa_train` needs to train one model."""

    model: ModelConfig
    data: DataConfig
    training: TrainingConfig
    lora: LoraConfig | None = None
    checkpoints: CheckpointConfig = CheckpointConfig()
    report_to: tuple[Reporter, ...] = ()
