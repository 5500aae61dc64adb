"""Datasets: their files, digests, and where they came from."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from nexa_contracts.base import Contract, Name, Part, Scalar


class FileDigest(Part):
    """One file of an artifact or a dataset."""

    path: str = Field(min_length=1)
    """Relative to the artifact's folder, with forward slashes."""
    size_bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class SourceProvenance(Part):
    """Where the data came from, when, and through what."""

    origin: str = Field(min_length=1)
    """A URL, a citation, or a description a stranger can follow."""
    collected_at: datetime
    collected_by: str
    """The program (with version) or person that made these files from the origin."""
    parents: tuple[str, ...] = ()
    """Names with version of the datasets this one was made from."""
    details: dict[str, Scalar] = {}
    source_files: tuple[FileDigest, ...] = ()
    """The raw files it was made from, where there are any to name."""


class DatasetManifest(Contract):
    """One version of one dataset, as the registry records it. A changed file is a new version."""

    name: Name
    version: int = Field(ge=1)
    created_at: datetime
    format: str
    """`parquet` or `jsonl`."""
    files: tuple[FileDigest, ...]
    """Paths relative to the durable tier, or absolute for data that stays where it is."""
    rows: int | None = Field(default=None, ge=0)
    columns: dict[str, str] = {}
    licence: str | None = None
    """SPDX identifier where there is one."""
    description: str = ""
    provenance: SourceProvenance

    @property
    def label(self) -> str:
        """The name with its version, as `python_stdlib_v1`."""
        return f"{self.name}_v{self.version}"


class DatasetRef(Part):
    """Which version of a dataset a run was given; the digest is of the whole DatasetManifest."""

    name: str
    version: int
    manifest_sha256: str
    rows: int | None = None
    size_bytes: int = 0

    @property
    def label(self) -> str:
        """The name with its version, as `python_stdlib_v1`."""
        return f"{self.name}_v{self.version}"
