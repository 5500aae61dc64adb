"""Text as blocks of tokens: every row's tokens and an end mark, joined, cut and memory-mapped from scratch.

Shapes: N blocks, T tokens of a block.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from nexa_contracts.base import digest_json
from nexa_contracts.errors import ConfigError
from nexa_contracts.training import DataConfig
from nexa_infra.storage.layout import Tiers
from nexa_train.cache import build_once
from nexa_train.data import StagedDataset, is_held_out, read_rows

SPLITS = ("train", "eval")
_VERSION = 1
"""Raise it when the same rows would give other blocks."""
_COUNTS = "counts.json"
_BATCH_ROWS = 32


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """What went into a split; the tokens of its last, incomplete block included."""

    rows: int = 0
    size_bytes: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class BlockFolder:
    """Tokenised splits in the cache."""

    folder: Path
    dtype: str
    block_size: int
    counts: dict[str, SplitCounts]

    def load(self, split: str) -> TokenBlocks:
        """Return the blocks of `train` or `eval`; only those that are read come into memory."""
        import numpy as np

        count = self.counts[split].tokens // self.block_size
        if count == 0:  # an empty file cannot be mapped
            return TokenBlocks(np.empty((0, self.block_size), dtype=self.dtype))
        shape = (count, self.block_size)
        return TokenBlocks(np.memmap(self.folder / f"{split}.bin", dtype=self.dtype, mode="r", shape=shape))

    @property
    def eval_bytes_per_token(self) -> float | None:
        """Bytes of text for each token of the evaluation split, end marks counted as tokens; None when it is empty."""
        counts = self.counts["eval"]
        return counts.size_bytes / counts.tokens if counts.tokens else None


class TokenBlocks:
    """A dataset of equally long token sequences, as torch's DataLoader reads it."""

    def __init__(self, tokens_NT: Any) -> None:
        self._tokens_NT = tokens_NT

    def __len__(self) -> int:
        return len(self._tokens_NT)

    def __getitem__(self, index: int) -> Any:
        return self._tokens_NT[index]


def collate_blocks(blocks: Sequence[Any]) -> dict[str, Any]:
    """Return a batch in which each token is to be predicted from those before it; the model shifts the labels."""
    import numpy as np
    import torch

    tokens_BT = torch.from_numpy(np.stack(blocks).astype(np.int64))
    return {"input_ids": tokens_BT, "labels": tokens_BT}


def build_blocks(tiers: Tiers, dataset: StagedDataset, data: DataConfig, *, tokenizer: Any, end_id: int) -> BlockFolder:
    """Return the dataset's splits as token blocks, from the cache when they were made before.

    `tokenizer` is a `tokenizers.Tokenizer`.

    Raises:
        ConfigError: the rows are not of the config's format, or the training split is shorter than one block.
        StorageError: scratch cannot be written.
    """
    dtype = "uint16" if tokenizer.get_vocab_size() <= 2**16 else "uint32"
    key = digest_json(
        {
            "version": _VERSION,
            "dataset": dataset.digest,
            "tokenizer": hashlib.sha256(tokenizer.to_str().encode()).hexdigest(),
            "end_id": end_id,
            "data": data.model_dump(include={"text_field", "eval_fraction", "max_rows"}),
        }
    )

    def build(folder: Path) -> None:
        counts = _write_splits(folder, read_rows(dataset, data), data, tokenizer=tokenizer, end_id=end_id, dtype=dtype)
        (folder / _COUNTS).write_text(json.dumps({split: asdict(count) for split, count in counts.items()}))

    # The block size is not part of the key: the same tokens are only cut otherwise.
    folder = build_once(tiers.dataloader_cache / f"tokens-{key[:16]}", build)
    found = json.loads((folder / _COUNTS).read_text())
    counts = {split: SplitCounts(**found[split]) for split in SPLITS}
    if counts["train"].tokens < data.block_size:
        raise ConfigError(
            f"dataset {dataset.manifest.label}: the training split has {counts['train'].tokens} tokens, fewer than one "
            f"block of {data.block_size}",
            hint="lower data.block_size, raise data.max_rows or use a larger dataset",
        )
    return BlockFolder(folder, dtype, data.block_size, counts)


def _write_splits(
    folder: Path, rows: Iterator[dict[str, Any]], data: DataConfig, *, tokenizer: Any, end_id: int, dtype: str
) -> dict[str, SplitCounts]:
    counts = dict.fromkeys(SPLITS, SplitCounts())
    with (folder / "train.bin").open("wb") as train, (folder / "eval.bin").open("wb") as held_out:
        streams = {"train": train, "eval": held_out}
        while batch := list(islice(rows, _BATCH_ROWS)):
            for split, stream in streams.items():
                chosen = [row for row in batch if is_held_out(row, data.eval_fraction) == (split == "eval")]
                texts = [row[data.text_field] for row in chosen]
                added = _append(stream, texts, tokenizer=tokenizer, end_id=end_id, dtype=dtype)
                before = counts[split]
                counts[split] = SplitCounts(
                    rows=before.rows + added.rows,
                    size_bytes=before.size_bytes + added.size_bytes,
                    tokens=before.tokens + added.tokens,
                )
    return counts


def _append(stream: IO[bytes], texts: Sequence[str], *, tokenizer: Any, end_id: int, dtype: str) -> SplitCounts:
    import numpy as np

    tokens = 0
    for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False):
        ids = np.asarray([*encoding.ids, end_id], dtype=dtype)
        stream.write(ids.tobytes())
        tokens += len(ids)
    return SplitCounts(rows=len(texts), size_bytes=sum(len(text.encode()) for text in texts), tokens=tokens)
