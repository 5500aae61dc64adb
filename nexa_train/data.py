"""The rows of a registered dataset: staged to scratch with their digests checked, split by a hash of each row.

Training reads the staged copy only, so the bytes it sees are the ones that were registered, and a slow or shared
durable tier is read once a node.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from nexa_contracts.dataset import DatasetManifest
from nexa_contracts.errors import ConfigError, DigestMismatch, MissingExtra
from nexa_contracts.training import DataConfig
from nexa_infra.storage.atomic import storage_errors
from nexa_infra.storage.datasets import dataset_paths, find_dataset, hash_file, verify_dataset
from nexa_infra.storage.layout import Tiers
from nexa_train.cache import build_once

COLUMNS = {"text": (), "chat": ("messages",), "preference": ("prompt", "chosen", "rejected")}
"""Columns a format reads besides `data.text_field`."""
_STAMPS = "stamps.json"
_BATCH_ROWS = 256
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class StagedDataset:
    """A dataset whose files lie on scratch and have the recorded digests."""

    manifest: DatasetManifest
    digest: str
    paths: tuple[Path, ...]


def stage_dataset(tiers: Tiers, name: str) -> StagedDataset:
    """Return a registered dataset, copied to scratch and verified on the way; a second call finds the copy.

    The registered files are looked at again at every call: when size or time of one is not as it was, all are hashed.

    Raises:
        NotFound: it is not registered.
        ConfigError: a file is missing or is not what was registered.
        StorageError: a tier cannot be read or written.
    """
    manifest = find_dataset(tiers, name)
    digest = manifest.digest()
    originals = dataset_paths(tiers, manifest)
    staged_names = [f"{number:05d}.{manifest.format}" for number in range(len(originals))]

    def build(folder: Path) -> None:
        recorded = [file.sha256 for file in manifest.files]
        for original, staged_name, expected in zip(originals, staged_names, recorded, strict=True):
            with storage_errors(original, "copying to scratch"):
                shutil.copyfile(original, folder / staged_name)
            if hash_file(folder / staged_name) != expected:
                verify_dataset(tiers, manifest)  # names the file, what was found and what was recorded
        (folder / _STAMPS).write_text(json.dumps(_stamps(originals)))

    try:
        if any(not path.is_file() for path in originals):
            verify_dataset(tiers, manifest)
        folder = build_once(tiers.dataloader_cache / f"dataset-{manifest.label}-{digest[:16]}", build)
        if json.loads((folder / _STAMPS).read_text()) != _stamps(originals):
            verify_dataset(tiers, manifest)
    except DigestMismatch as error:
        raise ConfigError(error.message, hint=error.hint) from error
    return StagedDataset(manifest, digest, tuple(folder / staged_name for staged_name in staged_names))


def read_rows(dataset: StagedDataset, data: DataConfig) -> Iterator[dict[str, Any]]:
    """Yield the rows a run trains and evaluates on, with the columns its format reads.

    Raises:
        ConfigError: a column is missing, or a row is not of the format.
    """
    columns = (data.text_field,) if data.format == "text" else COLUMNS[data.format]
    known = dataset.manifest.columns
    missing = [column for column in columns if known and column not in known]
    if missing:
        raise ConfigError(
            f"dataset {dataset.manifest.label}: no column {', '.join(missing)}; found: {', '.join(known)}; "
            f"data.format {data.format} reads {', '.join(columns)}",
            hint="name the column with data.text_field" if data.format == "text" else None,
        )
    rows = _all_rows(dataset, columns)
    for number, row in enumerate(islice(rows, data.max_rows), start=1):
        _check_row(row, columns, data.format, f"dataset {dataset.manifest.label}: row {number}")
        yield row


def is_held_out(row: dict[str, Any], fraction: float) -> bool:
    """Whether a row belongs to the evaluation split; equal rows always go to the same one."""
    text = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    number = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    return number < fraction * 2**64


def _stamps(paths: Sequence[Path]) -> list[list[int]]:
    return [[status.st_size, status.st_mtime_ns, status.st_ino] for status in (path.stat() for path in paths)]


def _all_rows(dataset: StagedDataset, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    for path in dataset.paths:
        if dataset.manifest.format == "parquet":
            yield from _parquet_rows(path, columns)
        else:
            yield from _jsonl_rows(path, columns, dataset.manifest.label)


def _parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtra("train", package="pyarrow", needed_for="reading Parquet") from error

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=list(columns)):
            yield from batch.to_pylist()


def _jsonl_rows(path: Path, columns: Sequence[str], label: str) -> Iterator[dict[str, Any]]:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ConfigError(f"dataset {label}: {path.name}:{number}: not valid JSON: {error}") from error
            yield {column: row.get(column) for column in columns}


def _check_row(row: dict[str, Any], columns: Sequence[str], kind: str, where: str) -> None:
    for column in columns:
        value = row[column]
        if kind == "chat" or (kind == "preference" and isinstance(value, list)):
            _check_messages(value, f"{where}: {column}")
        elif not isinstance(value, str):
            raise ConfigError(f"{where}: {column}: found {_describe(value)}; allowed: a text")
        elif _SURROGATE.search(value):  # JSON can say it, UTF-8 and tokenizers cannot
            raise ConfigError(f"{where}: {column}: found half a surrogate pair; allowed: text that is Unicode")


def _check_messages(value: Any, where: str) -> None:
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{where}: found {_describe(value)}; allowed: a list of messages, at least one")
    for index, message in enumerate(value):
        texts = [message.get(key) for key in ("role", "content")] if isinstance(message, dict) else [None]
        if not all(isinstance(text, str) for text in texts):
            raise ConfigError(
                f"{where}[{index}]: found {_describe(message)}; allowed: an object with the texts role and content"
            )


def _describe(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return f"an object with the keys {', '.join(map(str, value)) or '(none)'}"
    return repr(value)[:60]
