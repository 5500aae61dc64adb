"""Sealed folders: `nexa_seal.json`, written after every other file, holds the digest of each.

A folder without a seal was cut off; one whose files differ from it was damaged or changed. Both are found by reading
the folder alone, on any machine.
"""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path

from nexa_contracts.artifact import ArtifactKind, Seal
from nexa_contracts.dataset import FileDigest
from nexa_contracts.errors import AlreadyExists, ConfigError, DigestMismatch, NotFound, StorageError
from nexa_infra.storage.atomic import TEMPORARY_SUFFIX, create_file, replace_file, storage_errors
from nexa_infra.storage.copying import SourceFile, hash_tree, list_tree
from nexa_infra.storage.layout import SEAL_NAME

logger = logging.getLogger(__name__)

_SHOWN = 5
_UNREAD = "0" * 64


def seal_folder(
    folder: Path, *, kind: ArtifactKind, run_id: str, step: int | None, now: datetime, replace: bool = False
) -> Seal:
    """Return the seal of a folder, after writing it into the folder; sealing what is sealed returns that seal.

    Its writer must be done with the folder. With `replace`, a seal of other content gives way: for a writer that has
    just written into a folder it found there, as a run does that resumes from before a damaged checkpoint.

    The files are not flushed to the disk: scratch dies with its node, and what a power cut took is found by the
    digests.

    Raises:
        DigestMismatch: it is sealed and was changed since, or was sealed as something else.
        StorageError: it cannot be read or written, holds a link or a device, or changes while it is read.
    """
    with storage_errors(folder, "sealing"):
        return _seal(folder, Seal(kind=kind, run_id=run_id, step=step, created_at=now, files=()), replace)


def read_seal(folder: Path) -> Seal:
    """Return the seal of a folder, as it is written there; nothing is compared.

    Raises:
        NotFound: the folder has no seal, or is not there.
        DigestMismatch: the seal is not readable as one.
    """
    path = folder / SEAL_NAME
    try:
        with storage_errors(path, "reading"):
            raw = path.read_bytes()
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise NotFound(f"{folder}: not sealed: {SEAL_NAME} is missing") from error
        raise
    try:
        return Seal.from_json(raw, source=str(path))
    except ConfigError as error:
        raise DigestMismatch(f"{path}: damaged: {error.message}") from error


def verify_seal(folder: Path) -> Seal:
    """Return the seal of a folder whose every file was read and has the digest it had when it was sealed.

    Raises:
        NotFound: the folder has no seal, or is not there.
        DigestMismatch: a file is missing, damaged or unknown; each is named.
        StorageError: it cannot be read.
    """
    with storage_errors(folder, "verifying"):
        seal = read_seal(folder)
        files = list_content(folder)
        # Sizes first: what is missing or cut off is found without reading gigabytes.
        recorded = {file.path: file.sha256 for file in seal.files}
        sizes = (FileDigest(path=f.path, size_bytes=f.size_bytes, sha256=recorded.get(f.path, _UNREAD)) for f in files)
        _refuse(folder, seal, tuple(sizes))
        _refuse(folder, seal, hash_tree(folder, files))
    return seal


def list_content(folder: Path) -> tuple[SourceFile, ...]:
    """Return the files a seal of the folder is about: all but the seal itself.

    Raises:
        StorageError: the folder cannot be read, or holds what is neither a file nor a folder.
    """
    return list_tree(folder, ignore=_is_seal)


def is_same_content(one: Seal, other: Seal) -> bool:
    """Whether two seals are of the same thing with the same bytes; when it was sealed does not matter."""
    return (one.kind, one.run_id, one.step, one.files) == (other.kind, other.run_id, other.step, other.files)


def describe_seal(seal: Seal) -> str:
    """Return what a seal is of, for people: `checkpoint of run_… at step 200`."""
    return f"{seal.kind} of {seal.run_id}" + (f" at step {seal.step}" if seal.step is not None else "")


def differences(recorded: Seal, found: Seal) -> str:
    """Return how the files found differ from the recorded ones, the first of them by name; empty when they do not."""
    before = {file.path: file for file in recorded.files}
    after = {file.path: file for file in found.files}
    notes = [f"{path} is missing" for path in before if path not in after]
    notes += [f"{path} is unknown" for path in after if path not in before]
    for path, file in before.items():
        now = after.get(path, file)
        if now.size_bytes != file.size_bytes:
            notes.append(f"{path} is damaged: {now.size_bytes} bytes, recorded {file.size_bytes}")
        elif now.sha256 != file.sha256:
            notes.append(f"{path} is damaged: sha256 {now.sha256[:12]}…, recorded {file.sha256[:12]}…")
    more = len(notes) - _SHOWN
    return ", ".join(notes[:_SHOWN]) + (f", and {more} more" if more > 0 else "")


def _seal(folder: Path, label: Seal, replace: bool) -> Seal:
    files = list_content(folder)
    seal = label.model_copy(update={"files": hash_tree(folder, files)})
    if list_content(folder) != files:
        raise StorageError(f"{folder}: files came or went while it was sealed", hint="wait until its writer is done")
    try:
        create_file(folder / SEAL_NAME, seal.to_json().encode())
    except AlreadyExists:
        return _keep_or_replace(folder, seal, replace)
    return seal


def _keep_or_replace(folder: Path, seal: Seal, replace: bool) -> Seal:
    notes = _contradiction(folder, seal)
    if not notes:
        return read_seal(folder)
    if not replace:
        raise DigestMismatch(f"{folder}: {notes}", hint="it was changed after it was sealed")
    logger.warning("seal of other content is replaced folder=%s run_id=%s: %s", folder, seal.run_id, notes)
    replace_file(folder / SEAL_NAME, seal.to_json().encode())
    return seal


def _contradiction(folder: Path, seal: Seal) -> str:
    try:
        present = read_seal(folder)
    except DigestMismatch as error:
        return error.message
    if is_same_content(present, seal):
        return ""
    return f"is sealed as {describe_seal(present)}: {differences(present, seal) or f'found {describe_seal(seal)}'}"


def _refuse(folder: Path, seal: Seal, found: tuple[FileDigest, ...]) -> None:
    notes = differences(seal, seal.model_copy(update={"files": tuple(found)}))
    if notes:
        raise DigestMismatch(f"{folder}: {notes}")


def _is_seal(path: str) -> bool:
    # A writer killed while it wrote the seal leaves its temporary file, which says nothing about the content.
    return path == SEAL_NAME or (path.startswith(f".{SEAL_NAME}.") and path.endswith(TEMPORARY_SUFFIX))
