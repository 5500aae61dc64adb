"""The model that is trained: new weights from the config, or one from a folder or the hub; with adapters if asked."""

from __future__ import annotations

from typing import Any

from nexa_contracts.errors import ConfigError, MissingExtra
from nexa_contracts.training import LoraConfig, ModelConfig, ScratchModel, TrainConfig
from nexa_train.tokenizer import first_line

_DENSE = frozenset(
    {
        "gemma",
        "gemma2",
        "gpt2",
        "gpt_neox",
        "llama",
        "mistral",
        "olmo",
        "olmo2",
        "phi3",
        "qwen2",
        "qwen3",
        "smollm3",
        "starcoder2",
    }
)
"""Model types of which DDP need not look for weights that a step left out."""


def create_model(train: TrainConfig, *, end_id: int, pad_id: int) -> Any:
    """Return the model of a config, with adapters where it has a `lora` part. New weights come from torch's generator.

    Raises:
        ConfigError: the model cannot be loaded, or the adapters do not fit it.
        MissingExtra: adapters need peft.
    """
    if train.model.scratch is not None:
        model = _create_llama(train.model.scratch, train.data.block_size, end_id=end_id, pad_id=pad_id)
    else:
        model = _load_model(train.model, dtype=_weights_dtype(train))
    if train.training.gradient_checkpointing:
        model.config.use_cache = False
    if train.lora is not None:
        return add_adapters(model, train.lora)
    _expect_tied_weights(model)
    return model


def is_dense(model: Any) -> bool:
    """Whether every step is known to use every weight; not so with experts, or with parts for pictures."""
    return model.config.model_type in _DENSE


def llama_config(scratch: ScratchModel, block_size: int, *, end_id: int, pad_id: int) -> Any:
    """Return a new model's shape as transformers knows it."""
    from transformers.models.llama import LlamaConfig

    return LlamaConfig(
        vocab_size=scratch.vocab_size,
        hidden_size=scratch.hidden_size,
        intermediate_size=intermediate_size(scratch),
        num_hidden_layers=scratch.num_layers,
        num_attention_heads=scratch.num_heads,
        num_key_value_heads=scratch.num_kv_heads or scratch.num_heads,
        max_position_embeddings=block_size,
        initializer_range=scratch.initializer_range,
        attention_dropout=scratch.dropout,
        tie_word_embeddings=scratch.tie_embeddings,
        bos_token_id=end_id,
        eos_token_id=end_id,
        pad_token_id=pad_id,
    )


def intermediate_size(scratch: ScratchModel) -> int:
    """Return the width of the feed-forward layers: as given, or 8/3 of the hidden size in whole eights."""
    return scratch.intermediate_size or -(-scratch.hidden_size * 8 // 3 // 8) * 8


def add_adapters(model: Any, lora: LoraConfig) -> Any:
    """Return a model of which only low-rank adapters are trained.

    Raises:
        ConfigError: the model has no module of the names given.
        MissingExtra: peft is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise MissingExtra("train", package="peft", needed_for="lora") from error
    targets = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    try:
        return peft.get_peft_model(model, config)
    except ValueError as error:
        linear = sorted({name.rpartition(".")[2] for name, part in model.named_modules() if _is_linear(part)})
        raise ConfigError(
            f"lora.target_modules: found {targets}; allowed: all-linear, or of {', '.join(linear)}"
        ) from error


def _expect_tied_weights(model: Any) -> None:
    # A tied weight is saved once, under its other name. A Trainer that resumes would warn that it is missing.
    # Source: transformers.Trainer._issue_warnings_after_load.
    model._keys_to_ignore_on_save = {*(model._keys_to_ignore_on_save or ()), *model.all_tied_weights_keys}


def _create_llama(scratch: ScratchModel, block_size: int, *, end_id: int, pad_id: int) -> Any:
    from transformers.models.llama import LlamaForCausalLM

    return LlamaForCausalLM(llama_config(scratch, block_size, end_id=end_id, pad_id=pad_id))


def _load_model(model: ModelConfig, *, dtype: Any) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(model.path, revision=model.revision, dtype=dtype)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"model.path {model.path}: cannot be loaded: {first_line(error)}",
            hint="give a folder with config.json and safetensors weights, or a hub id this machine can reach",
        ) from error


def _weights_dtype(train: TrainConfig) -> Any:
    # Weights that are trained stay in fp32 and are computed with in half precision, because small updates vanish in
    # bf16; the frozen ones under adapters only need the room.
    import torch

    if train.lora is None:
        return torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[train.training.precision]


def _is_linear(module: Any) -> bool:
    import torch

    return isinstance(module, torch.nn.Linear)
