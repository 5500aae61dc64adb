"""The dataset registry: which versions there are, where their files lie, and whether those are unchanged.

`manifests/datasets/<name>_v<N>.json` are the source, one immutable file a version; `dataset_registry.yaml` is the list
for people and is made from them.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from nexa_contracts.dataset import DatasetManifest, DatasetRef, FileDigest
from nexa_contracts.errors import DigestMismatch, NotFound, StorageError
from nexa_infra.storage.layout import Tiers

_LABEL = re.compile(r"(?P<name>.+)_v(?P<version>[1-9][0-9]*)")
_CHUNK_BYTES = 4 * 1024 * 1024


def find_dataset(tiers: Tiers, name: str) -> DatasetManifest:
    """Return a registered dataset: the newest version of `name`, or exactly `name_v2`.

    Raises:
        NotFound: no such dataset or version; the message lists what there is.
        ConfigError: its manifest does not fit the schema.
    """
    versions = list_versions(tiers)
    if name in versions:
        return read_dataset(tiers, name, versions[name][-1])
    label = split_label(name)
    if label is not None and label[1] in versions.get(label[0], ()):
        return read_dataset(tiers, *label)
    raise _not_found(name, versions)


def read_dataset(tiers: Tiers, name: str, version: int) -> DatasetManifest:
    """Return one version of a dataset.

    Raises:
        NotFound: it is not registered.
        ConfigError: its manifest does not fit the schema.
    """
    path = tiers.dataset_manifest(name, version)
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"dataset {name}_v{version}: no file {path}") from error
    return DatasetManifest.from_json(text, source=str(path))


def list_versions(tiers: Tiers) -> dict[str, list[int]]:
    """Return the versions of every registered dataset, ascending, by name."""
    versions: dict[str, list[int]] = {}
    try:
        names = [path.name for path in tiers.dataset_manifests.iterdir()]
    except FileNotFoundError:
        return {}
    for file_name in names:
        label = split_label(file_name.removesuffix(".json"))
        if file_name.endswith(".json") and label is not None:
            versions.setdefault(label[0], []).append(label[1])
    return {name: sorted(numbers) for name, numbers in versions.items()}


def list_datasets(tiers: Tiers) -> Iterator[DatasetManifest]:
    """Yield every version of every registered dataset, by name and version.

    Raises:
        ConfigError: a manifest does not fit the schema.
    """
    for name, versions in sorted(list_versions(tiers).items()):
        for version in versions:
            yield read_dataset(tiers, name, version)


def split_label(text: str) -> tuple[str, int] | None:
    """Return name and version of a text such as `python_stdlib_v2`; None when it ends in no version."""
    match = _LABEL.fullmatch(text)
    return None if match is None else (match["name"], int(match["version"]))


def dataset_paths(tiers: Tiers, manifest: DatasetManifest) -> tuple[Path, ...]:
    """Return the absolute paths of a dataset's files, in the manifest's order.

    Raises:
        StorageError: a recorded path leads out of the durable tier.
    """
    return tuple(_locate(tiers, manifest, file) for file in manifest.files)


def describe_ref(manifest: DatasetManifest) -> DatasetRef:
    """Return the reference a run's manifest keeps: it pins the whole dataset manifest by digest."""
    return DatasetRef(
        name=manifest.name,
        version=manifest.version,
        manifest_sha256=manifest.digest(),
        rows=manifest.rows,
        size_bytes=sum(file.size_bytes for file in manifest.files),
    )


def verify_dataset(tiers: Tiers, manifest: DatasetManifest) -> None:
    """Return when every file of a dataset has its recorded size and sha256; sizes are compared first.

    Raises:
        DigestMismatch: a file is missing or changed; the message names it, what was found and what was recorded.
        StorageError: a file cannot be read.
    """
    pairs = check_sizes(tiers, manifest)
    # hashlib releases the lock, so two threads hash on two cores.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        digests = list(pool.map(hash_file, [path for path, _ in pairs]))
    for (path, file), digest in zip(pairs, digests, strict=True):
        if digest != file.sha256:
            raise _mismatch(path, manifest.label, f"found sha256 {digest}; recorded {file.sha256}")


def check_sizes(tiers: Tiers, manifest: DatasetManifest) -> list[tuple[Path, FileDigest]]:
    """Return the path and the record of each file of a dataset, when all are there with their recorded sizes.

    Raises:
        DigestMismatch: a file is missing or has another size.
        StorageError: a file cannot be looked at.
    """
    pairs = list(zip(dataset_paths(tiers, manifest), manifest.files, strict=True))
    for path, file in pairs:
        _check_size(path, file, manifest.label)
    return pairs


def hash_file(path: Path) -> str:
    """Return the sha256 of a file as hexadecimal text.

    Raises:
        StorageError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _check_size(path: Path, file: FileDigest, label: str) -> None:
    try:
        size_bytes = path.stat().st_size
    except FileNotFoundError as error:
        raise _mismatch(path, label, f"the file is missing; recorded {file.size_bytes} bytes") from error
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error
    if size_bytes != file.size_bytes:
        raise _mismatch(path, label, f"found {size_bytes} bytes; recorded {file.size_bytes}")


def _mismatch(path: Path, label: str, what: str) -> DigestMismatch:
    return DigestMismatch(
        f"dataset {label}: {path}: {what}",
        hint="restore the file, or register the changed data, which makes it a new version",
    )


def _locate(tiers: Tiers, manifest: DatasetManifest, file: FileDigest) -> Path:
    path = PurePosixPath(file.path)
    if not path.is_absolute() and ".." in path.parts:
        raise StorageError(f"dataset {manifest.label}: the path {file.path!r} leads out of the durable tier")
    return tiers.durable / path


def _not_found(name: str, versions: dict[str, list[int]]) -> NotFound:
    if not versions:
        return NotFound(f"dataset {name}: nothing is registered", hint="register it with `nexa data register`")
    close = difflib.get_close_matches(name, versions, n=1, cutoff=0.5)
    nearest = f"; did you mean {close[0]}?" if close else ";"
    known = [f"{known} (v{numbers[-1]})" for known, numbers in sorted(versions.items())]
    shown = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
    return NotFound(f"dataset {name}: not registered{nearest} known: {shown}")
