"""Promotion: a folder on scratch becomes an artifact on durable, whole or not at all, wherever a crash strikes.

In order, each step on the disk before the next begins:

1. an intent, locked: `manifests/intents/<name>.json`;
2. a copy beside its final place, hashed in the same pass and held against the source's seal;
3. the seal in the copy;
4. one rename to `checkpoints/<name>`: now it is visible, and whole;
5. its manifest, `manifests/artifact_<name>.json`;
6. the intent goes.

A crash before 4 leaves an invisible copy, one after it a visible artifact without a manifest: `recover_promotions`
removes the first and completes the second, and never touches what a living process is at work on.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from nexa_contracts.artifact import ArtifactKind, ArtifactManifest, Seal
from nexa_contracts.clock import Clock
from nexa_contracts.errors import AlreadyExists, DigestMismatch, NotFound, StorageError
from nexa_contracts.ids import check_name
from nexa_contracts.units import format_size
from nexa_infra.storage.artifacts import discard_incoming, find_artifact, record_artifact
from nexa_infra.storage.atomic import create_file, make_folder, rename_exclusively, storage_errors
from nexa_infra.storage.copying import copy_tree, hash_tree
from nexa_infra.storage.intents import Claim, create_claim, take_claim
from nexa_infra.storage.layout import SEAL_NAME, Tiers, checkpoint_name
from nexa_infra.storage.recovery import settle_claim
from nexa_infra.storage.seal import describe_seal, differences, is_same_content, list_content, read_seal
from nexa_infra.storage.tiers import check_tier

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ArtifactLabel:
    """What is promoted, and the name it gets on durable."""

    name: str
    kind: ArtifactKind
    run_id: str
    step: int | None = None

    @classmethod
    def of_model(cls, run_id: str) -> ArtifactLabel:
        """Return the label of a run's final model."""
        return cls(run_id, "model", run_id)

    @classmethod
    def of_checkpoint(cls, run_id: str, step: int) -> ArtifactLabel:
        """Return the label of a kept checkpoint of a run."""
        return cls(checkpoint_name(run_id, step), "checkpoint", run_id, step)


def promote_folder(source: Path, label: ArtifactLabel, *, tiers: Tiers, clock: Clock) -> ArtifactManifest:
    """Return the manifest of the folder's copy on durable; promoting the same content again returns the same manifest.

    Waits while another living process promotes the same name.

    Raises:
        DigestMismatch: the source is not what its seal says; each file is named, nothing is visible.
        AlreadyExists: the name holds other content.
        NotFound: no such source folder.
        TierMissing: durable is not mounted, or is another folder.
        StorageError: it cannot be read or written, or durable is full; nothing is visible, or a next call or
            `recover_promotions` completes it.
    """
    check_name(label.name, what="artifact name")
    with storage_errors(source, f"promoting as {label.name}"):
        check_tier(tiers, "durable")
        return _promote_or_wait(source, label, tiers=tiers, clock=clock)


def _promote_or_wait(source: Path, label: ArtifactLabel, *, tiers: Tiers, clock: Clock) -> ArtifactManifest:
    while True:
        present = find_artifact(tiers, label.name)
        if present is not None:
            return _require_same(present, source, label, tiers)
        abandoned = take_claim(tiers, label.name, wait=True)
        if abandoned is not None:
            settle_claim(abandoned, tiers, clock=clock)
            continue
        claim = create_claim(tiers, label.name, source=source, clock=clock)
        if claim is not None:
            return _promote(source, label, claim, tiers=tiers, clock=clock)


def _promote(source: Path, label: ArtifactLabel, claim: Claim, *, tiers: Tiers, clock: Clock) -> ArtifactManifest:
    is_visible = False
    try:
        present = find_artifact(tiers, label.name)
        if present is not None:  # another promotion finished between our looking and our claim
            _require_same(present, source, label, tiers)
        else:
            target = tiers.checkpoint(label.name)
            _require_free(target)
            incoming = tiers.incoming(label.name, os.urandom(6).hex())
            seal = _copy(source, incoming, label, clock)
            rename_exclusively(incoming, target)
            is_visible = True
            present = record_artifact(tiers, label.name, seal=seal, clock=clock)
    except BaseException:
        _abandon(claim, tiers, is_visible)
        raise
    claim.finish()
    return present


def _copy(source: Path, incoming: Path, label: ArtifactLabel, clock: Clock) -> Seal:
    if not source.is_dir():
        raise NotFound(f"{source}: no such folder to promote as {label.name}")
    sealed = _find_seal(source)
    if sealed is not None and (sealed.kind, sealed.run_id, sealed.step) != (label.kind, label.run_id, label.step):
        raise DigestMismatch(f"{source}: is sealed as {describe_seal(sealed)}; cannot be promoted as {label.name}")
    files = list_content(source)
    if not files:
        raise StorageError(f"{source}: holds no file; allowed: a folder with files", hint="nothing was promoted")
    make_folder(incoming.parent)
    _check_room(incoming.parent, sum(file.size_bytes for file in files))
    with storage_errors(incoming, "creating the folder"):
        incoming.mkdir()
    digests = copy_tree(source, incoming, files=files)
    now = sealed.created_at if sealed is not None else clock.now()
    seal = Seal(kind=label.kind, run_id=label.run_id, step=label.step, created_at=now, files=digests)
    if sealed is not None and (notes := differences(sealed, seal)):
        raise DigestMismatch(f"{source}: {notes}", hint="nothing was promoted; use the checkpoint before it")
    create_file(incoming / SEAL_NAME, seal.to_json().encode())
    return seal


def _require_same(present: ArtifactManifest, source: Path, label: ArtifactLabel, tiers: Tiers) -> ArtifactManifest:
    target = tiers.checkpoint(label.name)
    if not target.is_dir():
        raise StorageError(f"{target}: is gone, though {tiers.artifact_manifest(label.name)} names it")
    promoted = read_seal(target)
    found = _find_seal(source)
    if found is None:
        # A source that is gone cannot differ: it was rotated away after it had been promoted.
        files = hash_tree(source, list_content(source)) if source.is_dir() else promoted.files
        same = {"kind": label.kind, "run_id": label.run_id, "step": label.step, "files": files}
        found = promoted.model_copy(update=same)
    if not is_same_content(promoted, found):
        notes = differences(promoted, found) or f"found {describe_seal(found)}"
        raise AlreadyExists(f"{target}: holds {describe_seal(promoted)} with other content than {source}: {notes}")
    return present


def _require_free(target: Path) -> None:
    if os.path.lexists(target):
        raise AlreadyExists(f"{target}: exists and was not promoted", hint="move it away")


def _find_seal(source: Path) -> Seal | None:
    try:
        return read_seal(source)
    except NotFound:
        return None


def _check_room(folder: Path, size_bytes: int) -> None:
    with storage_errors(folder, "looking at the file system"):
        room = os.statvfs(folder)
    free_bytes = room.f_bavail * room.f_frsize
    if room.f_blocks and free_bytes < size_bytes:
        raise StorageError(
            f"{folder}: {format_size(size_bytes)} to promote, {format_size(free_bytes)} free",
            hint="free space on durable; nothing was promoted",
        )


def _abandon(claim: Claim, tiers: Tiers, is_visible: bool) -> None:
    # What is visible keeps its intent, for whoever comes next to complete it.
    if is_visible:
        claim.release()
        return
    try:
        discard_incoming(tiers, claim.name)
    except StorageError as error:
        logger.warning("an unfinished copy is left for recovery name=%s: %s", claim.name, error)
        claim.release()
        return
    claim.finish()
