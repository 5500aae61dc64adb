"""Tokenizers: a byte-level BPE trained on the dataset for a new model, or the one that came with a model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nexa_contracts.base import digest_json
from nexa_contracts.errors import ConfigError
from nexa_contracts.training import DataConfig, ModelConfig
from nexa_infra.storage.layout import Tiers
from nexa_train.cache import build_once
from nexa_train.data import StagedDataset, is_held_out, read_rows

END_OF_TEXT = "<|endoftext|>"
PADDING = "<|pad|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, PADDING, TURN_START, TURN_END)
"""The ids of the trained tokenizer begin with these, in this order."""
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}{% else %}{{ message['content'] }}<|im_end|>"
    "{% endif %}\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML; the marks around an assistant's words say what a chat model is trained to write."""
_VERSION = 1
"""Raise it when the same dataset would give another tokenizer."""
_MOST_BYTES = 64 * 1024 * 1024
"""Text that merges are learnt from; more changes the vocabulary little and takes long."""


def train_tokenizer(tiers: Tiers, dataset: StagedDataset, data: DataConfig, *, vocab_size: int) -> Path:
    """Return the `tokenizer.json` trained on a dataset's training split, from the cache when it was trained before.

    Raises:
        ConfigError: the rows are not of the config's format.
        StorageError: scratch cannot be written.
    """
    import tokenizers

    key = digest_json(
        {
            "version": _VERSION,
            "tokenizers": tokenizers.__version__,
            "dataset": dataset.digest,
            "data": data.model_dump(include={"format", "text_field", "eval_fraction", "max_rows"}),
            "vocab_size": vocab_size,
        }
    )

    def build(folder: Path) -> None:
        tokenizer = _train_bpe(_texts(dataset, data), vocab_size)
        tokenizer.save(str(folder / "tokenizer.json"))

    return build_once(tiers.dataloader_cache / f"tokenizer-{key[:16]}", build) / "tokenizer.json"


def wrap_tokenizer(path: Path) -> Any:
    """Return the tokenizer in a `tokenizer.json` as transformers knows it, with a chat template."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_file=str(path),
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=PADDING,
        chat_template=CHAT_TEMPLATE,
    )


def load_tokenizer(model: ModelConfig) -> Any:
    """Return the tokenizer that came with a model, with a padding token and a chat template where it had none.

    Raises:
        ConfigError: there is none under that path, or it is of the slow kind.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model.path, revision=model.revision)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.path {model.path}: no tokenizer: {first_line(error)}") from error
    if not tokenizer.is_fast:
        raise ConfigError(f"model.path {model.path}: found a slow tokenizer; allowed: one with a tokenizer.json")
    if tokenizer.eos_token_id is None:
        raise ConfigError(f"model.path {model.path}: its tokenizer has no end-of-text token")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if not tokenizer.chat_template:
        tokenizer.chat_template = CHAT_TEMPLATE.replace(TURN_END, tokenizer.eos_token)
    return tokenizer


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, which for a hub's errors is the one that says what is wrong."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def _texts(dataset: StagedDataset, data: DataConfig) -> Iterator[str]:
    seen_bytes = 0
    for row in read_rows(dataset, data):
        if is_held_out(row, data.eval_fraction):
            continue
        for text in _strings(row):
            seen_bytes += len(text)
            yield text
        if seen_bytes >= _MOST_BYTES:
            return


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part)


def _train_bpe(texts: Iterator[str], vocab_size: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    return tokenizer
