"""What a run trains: model, data, hyper-parameters, LoRA, checkpoints. One schema for every training stack."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from nexa_contracts.base import Name, Part


class ScratchModel(Part):
    """A Llama-style model with random weights, and the byte-level BPE tokenizer trained for it on the dataset."""

    architecture: Literal["llama"] = "llama"
    """Family of the model."""
    vocab_size: int = Field(default=2048, ge=260, le=1_000_000)
    """Tokens of the tokenizer that is trained for it."""
    hidden_size: int = Field(default=128, ge=8, le=65_536)
    """Width of the residual stream; a multiple of num_heads."""
    num_layers: int = Field(default=2, ge=1, le=1024)
    """Transformer blocks."""
    num_heads: int = Field(default=4, ge=1, le=1024)
    """Attention heads."""
    num_kv_heads: int | None = Field(default=None, ge=1, le=1024)
    """Heads of keys and values (grouped-query attention); None: as many as `num_heads`."""
    intermediate_size: int | None = Field(default=None, ge=8, le=1_000_000)
    """Width of the feed-forward layers; None: 8/3 of hidden_size, rounded up to a multiple of 8."""
    initializer_range: float = Field(default=0.02, gt=0, lt=1)
    """Standard deviation of the first weights."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of the attention weights while training."""
    tie_embeddings: bool = True
    """Whether input and output embeddings are one matrix."""

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
    """A local folder or a hub id of a model to go on from."""
    revision: str | None = Field(default=None, max_length=128)
    """Commit or tag of a hub model."""
    scratch: ScratchModel | None = None
    """A model with random weights."""

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
    """What a row is: plain text, a conversation, or a preferred and a rejected answer."""
    text_field: str = "text"
    """Column that holds the text, for the format `text`."""
    block_size: int = Field(default=128, ge=8, le=10_000_000)
    """Tokens per training sequence."""
    eval_fraction: float = Field(default=0.05, ge=0, le=0.5)
    """Share of rows held out for evaluation, chosen by a hash of each row, the same for every run."""
    max_rows: int | None = Field(default=None, ge=1)
    """Read no more rows than this; None reads all."""


class LoraConfig(Part):
    """Low-rank adapters instead of full weights."""

    rank: int = Field(default=16, ge=1, le=4096)
    """Rank of the adapters."""
    alpha: int = Field(default=32, ge=1, le=65_536)
    """Scale of the adapters; they count alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout in front of the adapters."""
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    """Names of the layers that get adapters, or all linear ones."""


class TrainingConfig(Part):
    """How it trains. Batch size is per process; the effective one also counts accumulation and the world size."""

    backend: Literal["hf", "axolotl"] = "hf"
    """Which training stack runs it."""
    max_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps."""
    epochs: float | None = Field(default=None, gt=0)
    """Passes over the data; give exactly one of max_steps and epochs."""
    batch_size: int = Field(default=8, ge=1)
    """Sequences per process and step."""
    gradient_accumulation: int = Field(default=1, ge=1)
    """Batches that are summed before each optimizer step."""
    learning_rate: float = Field(default=3e-4, gt=0, le=100)
    """Highest learning rate of the schedule."""
    lr_scheduler: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "cosine"
    """How the learning rate falls after the warm-up."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps in which it rises from zero."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are scaled down to this norm."""
    optimizer: Literal["adamw_torch", "adamw_torch_fused", "adafactor", "sgd"] = "adamw_torch"
    """The optimizer."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Number format of the computation."""
    gradient_checkpointing: bool = False
    """Recompute activations to save memory."""
    dpo_beta: float = Field(default=0.1, gt=0)
    """Strength of the reference model; only for preference data."""
    log_every: int = Field(default=10, ge=1)
    """Steps between two lines of metrics."""
    eval_every: int | None = Field(default=None, ge=1)
    """Steps between two evaluations; None: once, at the end."""
    divergence_factor: float | None = Field(default=4.0, gt=1)
    """Stop when the smoothed loss exceeds this times its lowest; None only stops on NaN."""
    seed: int = Field(default=17, ge=0, le=2**32 - 1)
    """Decides weights, order of data and dropout."""

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.max_steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of max_steps and epochs")
        return self


class CheckpointConfig(Part):
    """When a checkpoint is saved to scratch and which ones are kept on durable. The final model always is."""

    every_steps: int | None = Field(default=None, ge=1)
    """Steps between two checkpoints; None: only at the end and when asked to leave."""
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
