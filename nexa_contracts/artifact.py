"""Sealed folders: a checkpoint or a final model together with the digests of its files."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from nexa_contracts.base import Contract, Part
from nexa_contracts.dataset import FileDigest

ArtifactKind = Literal["checkpoint", "model", "logs", "report"]


class Seal(Contract):
    """`nexa_seal.json` in an artifact's folder, written after every other file: the folder is whole and unchanged
    if each file has this digest and no other file is there.
    """

    kind: ArtifactKind
    run_id: str
    step: int | None = Field(default=None, ge=0)
    created_at: datetime
    files: tuple[FileDigest, ...]
    """Sorted by path; the seal itself is not among them."""

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(file.size_bytes for file in self.files)


class ArtifactManifest(Contract):
    """`artifact_<name>.json` on durable: an artifact that was promoted. Written last, so what it names is whole."""

    name: str
    """`<run_id>` for the final model, `<run_id>_step_<n>` for a kept checkpoint."""
    kind: ArtifactKind
    run_id: str
    step: int | None = None
    path: str
    """Relative to the durable tier."""
    promoted_at: datetime
    seal_sha256: str
    """Digest of the Seal, which names the digest of every file."""
    size_bytes: int = Field(ge=0)
    file_count: int = Field(ge=0)


class ArtifactRef(Part):
    """An artifact as a run's outcome names it."""

    name: str
    kind: ArtifactKind
    step: int | None = None
    path: str
    seal_sha256: str
    size_bytes: int
