"""Artifacts on durable: their manifests, and the folders beside them that are not visible."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from nexa_contracts.artifact import ArtifactManifest, Seal
from nexa_contracts.clock import Clock
from nexa_contracts.errors import StorageError
from nexa_infra.storage.atomic import create_file, fsync_dir, rename_exclusively, storage_errors
from nexa_infra.storage.layout import INCOMING_PREFIX, REMOVED_PREFIX, Tiers

_DAMAGED_PREFIX = ".damaged-"


def find_artifact(tiers: Tiers, name: str) -> ArtifactManifest | None:
    """Return the manifest of a promoted artifact; None when there is none.

    Raises:
        ConfigError: the manifest is not readable as one.
        StorageError: it cannot be read.
    """
    path = tiers.artifact_manifest(name)
    try:
        with storage_errors(path, "reading"):
            raw = path.read_bytes()
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    return ArtifactManifest.from_json(raw, source=str(path))


def record_artifact(tiers: Tiers, name: str, *, seal: Seal, clock: Clock) -> ArtifactManifest:
    """Return the manifest of a visible, whole folder, after writing it: the last step of a promotion.

    Raises:
        AlreadyExists: it has one.
        StorageError: durable cannot be written.
    """
    fsync_dir(tiers.checkpoints)  # what a manifest names must still be there after a power cut
    manifest = ArtifactManifest(
        name=name,
        kind=seal.kind,
        run_id=seal.run_id,
        step=seal.step,
        path=str(tiers.checkpoint(name).relative_to(tiers.durable)),
        promoted_at=clock.now(),
        seal_sha256=seal.digest(),
        size_bytes=seal.size_bytes,
        file_count=len(seal.files),
    )
    create_file(tiers.artifact_manifest(name), manifest.to_json().encode())
    return manifest


def set_aside(tiers: Tiers, name: str) -> Path:
    """Return the invisible place a damaged artifact was moved to; nothing of it is deleted.

    Raises:
        StorageError: durable cannot be written.
    """
    aside = tiers.checkpoints / f"{_DAMAGED_PREFIX}{name}-{os.urandom(6).hex()}"
    rename_exclusively(tiers.checkpoint(name), aside)
    fsync_dir(tiers.checkpoints)
    return aside


def list_incoming(tiers: Tiers) -> tuple[tuple[str, Path], ...]:
    """Return the copies under way or left behind, each with the name it is for.

    Raises:
        StorageError: durable cannot be read.
    """
    found = (path.name.removeprefix(INCOMING_PREFIX) for path in _hidden(tiers, INCOMING_PREFIX))
    return tuple((rest.rpartition("-")[0], tiers.checkpoints / f"{INCOMING_PREFIX}{rest}") for rest in found)


def discard_incoming(tiers: Tiers, name: str) -> None:
    """Remove the copies that were made for a name and never became visible.

    Raises:
        StorageError: durable cannot be written.
    """
    for owner, path in list_incoming(tiers):
        if owner == name:
            discard_folder(path)


def discard_folder(path: Path) -> None:
    """Remove a folder so that nobody meets half of it: it is renamed first. One that is gone already is fine.

    A process that still writes into it, believed dead, can no longer make it visible under its own name.

    Raises:
        StorageError: it cannot be removed.
    """
    removed = path.with_name(f"{REMOVED_PREFIX}{os.urandom(6).hex()}")
    with storage_errors(path, "removing"):
        try:
            path.rename(removed)
        except FileNotFoundError:
            return
        _delete(removed)


def finish_removals(folder: Path) -> None:
    """Delete what a killed process had begun to remove from a folder.

    Raises:
        StorageError: it cannot be deleted.
    """
    with storage_errors(folder, "removing"):
        for path in _with_prefix(folder, REMOVED_PREFIX):
            _delete(path)


def _hidden(tiers: Tiers, prefix: str) -> list[Path]:
    with storage_errors(tiers.checkpoints, "reading the folder"):
        return _with_prefix(tiers.checkpoints, prefix)


def _with_prefix(folder: Path, prefix: str) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(folder) if entry.name.startswith(prefix)]
    except FileNotFoundError:
        return []


def _delete(path: Path) -> None:
    while path.exists():
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            continue  # another process removes it too; look again
