"""Registering a dataset: copied and hashed in one pass, its rows read, then made a version under a lock.

Written in this order, so that a kill leaves at most a file that nobody names: the data under a hidden name, the data
under its version's name, the manifest (the dataset exists from here), the list for people.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexa_contracts.clock import Clock
from nexa_contracts.dataset import DatasetManifest, FileDigest, SourceProvenance
from nexa_contracts.errors import ConfigError, NotFound
from nexa_contracts.ids import check_name
from nexa_infra.storage.atomic import create_file, fsync_dir, make_folder, replace_file, storage_errors
from nexa_infra.storage.dataset_formats import Contents, find_format, inspect_file, merge_contents
from nexa_infra.storage.datasets import find_dataset, hash_file, list_datasets, list_versions, read_dataset, split_label
from nexa_infra.storage.layout import INCOMING_PREFIX, Tiers

_CHUNK_BYTES = 4 * 1024 * 1024
_LONGEST_NAME = 56
"""Leaves room for the version in the 63 characters that a name may have."""
_REGISTRY_HEADER = "# Written by nexa for people to read. The source is the manifests in datasets/ beside this file.\n"


@dataclass(frozen=True, slots=True)
class DatasetDescription:
    """What a person says of a dataset; the rest is read from its files."""

    name: str
    provenance: SourceProvenance
    licence: str | None = None
    """SPDX identifier where there is one."""
    text: str = ""


@dataclass(frozen=True, slots=True)
class _Staged:
    """Files as they will be registered: digests with the last part of their paths, and where they wait."""

    digests: tuple[FileDigest, ...]
    contents: Contents
    format: str


def register_dataset(
    tiers: Tiers, files: Sequence[Path], description: DatasetDescription, *, clock: Clock, copy: bool = True
) -> DatasetManifest:
    """Return the version that holds exactly these files: a new one, or the one that was registered before.

    With `copy` the files are copied to the durable tier; without, they stay where they are and are named by their
    absolute paths.

    Raises:
        ConfigError: a name is not allowed, a file has another format than JSONL or Parquet, or a row is wrong.
        NotFound: a file or a parent dataset does not exist.
        MissingExtra: Parquet needs pyarrow.
        StorageError: the disk is full, read-only or broken.
    """
    name = check_name(description.name, what="dataset name")
    if split_label(name) is not None:
        raise ConfigError(f"dataset name: found {name!r}; allowed: a name without a version, which is counted for you")
    if len(name) > _LONGEST_NAME:
        raise ConfigError(f"dataset name: found {len(name)} characters; allowed: at most {_LONGEST_NAME}")
    _check_files(files)
    for parent in description.provenance.parents:
        find_dataset(tiers, parent)
    incoming = tiers.datasets / f"{INCOMING_PREFIX}{name}-{secrets.token_hex(6)}"
    try:
        staged = _stage(files, incoming if copy else None)
        with _lock(tiers):
            return _find_same(tiers, name, staged) or _create_version(tiers, description, staged, incoming, clock)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)  # its name is hidden: what stays of it is read by nobody


def write_registry(tiers: Tiers) -> None:
    """Write the list of datasets for people anew from their manifests.

    Raises:
        ConfigError: a manifest does not fit the schema.
        StorageError: the disk is full, read-only or broken.
    """
    from ruamel.yaml import YAML

    listed: dict[str, Any] = {}
    for manifest in list_datasets(tiers):
        versions = listed.setdefault(manifest.name, {"newest": manifest.version, "versions": {}})
        versions["newest"] = manifest.version
        versions["versions"][manifest.version] = _describe(manifest)
    emitter = YAML(typ="safe", pure=True)
    emitter.default_flow_style = False
    emitter.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # ruamel annotates its default
    emitter.width = 1000
    text = io.StringIO()
    emitter.dump({"schema_version": 1, "datasets": listed}, text)
    replace_file(tiers.dataset_registry, (_REGISTRY_HEADER + text.getvalue()).encode())


def _describe(manifest: DatasetManifest) -> dict[str, Any]:
    return {
        "created_at": manifest.created_at.isoformat(),
        "manifest_sha256": manifest.digest(),
        "format": manifest.format,
        "rows": manifest.rows,
        "size_bytes": sum(file.size_bytes for file in manifest.files),
        "licence": manifest.licence,
        "origin": manifest.provenance.origin,
        "parents": list(manifest.provenance.parents),
        "files": {file.path: file.sha256 for file in manifest.files},
    }


def _check_files(files: Sequence[Path]) -> None:
    if not files:
        raise ConfigError("dataset files: found none; allowed: one or more .jsonl or .parquet files")
    for path in files:
        if not path.is_file():
            raise NotFound(f"{path}: no such file")
    formats = {find_format(path) for path in files}
    if len(formats) > 1:
        raise ConfigError(f"dataset files: found {' and '.join(sorted(formats))}; allowed: one format a dataset")
    names = [path.name for path in files]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"dataset files: the name {twice[0]} stands twice; allowed: each file name once")


def _stage(files: Sequence[Path], incoming: Path | None) -> _Staged:
    digests: list[FileDigest] = []
    contents: list[Contents] = []
    if incoming is not None:
        make_folder(incoming)
    for source in files:
        if incoming is None:
            path, digest = source.resolve(), hash_file(source)
            digests.append(FileDigest(path=path.as_posix(), size_bytes=path.stat().st_size, sha256=digest))
        else:
            path = incoming / source.name
            digests.append(_copy(source, path))
        # What is read is the copy: a source that is being written cannot be one thing here and another there.
        found = inspect_file(path, source=source)
        contents = [merge_contents(contents[0], found, source=source) if contents else found]
    if incoming is not None:
        fsync_dir(incoming)
    return _Staged(digests=tuple(digests), contents=contents[0], format=find_format(files[0]))


def _copy(source: Path, target: Path) -> FileDigest:
    digest = hashlib.sha256()
    size_bytes = 0
    with storage_errors(target, "copying"), source.open("rb", buffering=0) as reader, target.open("xb") as writer:
        while chunk := reader.read(_CHUNK_BYTES):
            digest.update(chunk)
            writer.write(chunk)
            size_bytes += len(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    return FileDigest(path=source.name, size_bytes=size_bytes, sha256=digest.hexdigest())


@contextmanager
def _lock(tiers: Tiers) -> Iterator[None]:
    # Held while a version is counted, named and listed; the system lets go of it when its owner dies.
    path = tiers.dataset_registry.with_name(".dataset_registry.lock")
    make_folder(path.parent)
    with storage_errors(path, "locking"):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        with storage_errors(path, "locking"):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _find_same(tiers: Tiers, name: str, staged: _Staged) -> DatasetManifest | None:
    wanted = [(file.size_bytes, file.sha256) for file in staged.digests]
    for version in reversed(list_versions(tiers).get(name, [])):
        manifest = read_dataset(tiers, name, version)
        if [(file.size_bytes, file.sha256) for file in manifest.files] == wanted:
            return manifest
    return None


def _create_version(
    tiers: Tiers, description: DatasetDescription, staged: _Staged, incoming: Path, clock: Clock
) -> DatasetManifest:
    version = max(list_versions(tiers).get(description.name, []), default=0) + 1
    digests = staged.digests
    if incoming.is_dir():
        digests = _place(tiers, f"{description.name}_v{version}", staged, incoming)
    manifest = DatasetManifest(
        name=description.name,
        version=version,
        created_at=clock.now(),
        format=staged.format,
        files=digests,
        rows=staged.contents.rows,
        columns=staged.contents.columns,
        licence=description.licence,
        description=description.text,
        provenance=description.provenance,
    )
    create_file(tiers.dataset_manifest(manifest.name, version), manifest.to_json().encode())
    write_registry(tiers)
    return manifest


def _place(tiers: Tiers, label: str, staged: _Staged, incoming: Path) -> tuple[FileDigest, ...]:
    # Nothing has this version's manifest, so data under its name was left by a registration that was killed.
    single = len(staged.digests) == 1
    source = incoming / staged.digests[0].path if single else incoming
    target = tiers.datasets / (f"{label}.{staged.format}" if single else label)
    with storage_errors(target, "placing the data"):
        if target.is_dir():
            removed = tiers.datasets / f"{INCOMING_PREFIX}{label}-{secrets.token_hex(6)}"
            target.rename(removed)
            shutil.rmtree(removed, ignore_errors=True)  # hidden by its name, as above
        source.replace(target)
        fsync_dir(tiers.datasets)
    base = target.relative_to(tiers.durable)
    if single:
        return (staged.digests[0].model_copy(update={"path": base.as_posix()}),)
    return tuple(file.model_copy(update={"path": (base / file.path).as_posix()}) for file in staged.digests)
