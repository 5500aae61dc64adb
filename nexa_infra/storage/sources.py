"""Datasets that need no download: built from what every machine with this package has, and registered like any other.

`python_stdlib` is the Python standard library's own source: some megabytes of real text under a known licence, the
same on every machine with the same interpreter.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sysconfig
import tempfile
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from nexa_contracts.clock import Clock
from nexa_contracts.dataset import DatasetManifest, FileDigest, SourceProvenance
from nexa_contracts.errors import MissingExtra, NotFound
from nexa_infra.storage.datasets import check_sizes, find_dataset, list_versions, read_dataset
from nexa_infra.storage.layout import Tiers
from nexa_infra.storage.registration import DatasetDescription, register_dataset

PYTHON_STDLIB = "python_stdlib"
LEFT_OUT = frozenset(
    {
        "__pycache__", "dist-packages", "site-packages",  # not the standard library
        "test", "tests", "idlelib", "lib2to3", "turtledemo", "ensurepip",  # not installed everywhere
        "encodings", "pydoc_data",  # generated tables and pages
    }
)  # fmt: skip
"""Folders of the standard library that are no part of the dataset."""


@dataclass(frozen=True, slots=True)
class _SourceFile:
    path: str
    text: str
    digest: FileDigest


def ensure_source(tiers: Tiers, name: str, *, clock: Clock) -> DatasetManifest:
    """Return the dataset of this name; one of BUILT_IN_SOURCES is built and registered when it is not there yet.

    Raises:
        NotFound: it is neither registered nor built in.
        MissingExtra: building it needs pyarrow.
        DigestMismatch: its stored file is missing or has another size.
        StorageError: the disk is full, read-only or broken.
    """
    build = BUILT_IN_SOURCES.get(name)
    if build is None:
        return find_dataset(tiers, name)
    return build(tiers, clock)


def ensure_python_stdlib(tiers: Tiers, *, clock: Clock, folder: Path | None = None) -> DatasetManifest:
    """Return the dataset of this interpreter's standard library, one row a file with `path` and `text`.

    It is built once an interpreter version; later calls compare the version and the stored file's size only.
    `folder` is the library's, the running interpreter's by default.

    Raises:
        MissingExtra: building it needs pyarrow.
        NotFound: this interpreter came without the library's sources.
        DigestMismatch: the stored file is missing or has another size.
        StorageError: the disk is full, read-only or broken.
    """
    interpreter = {"implementation": platform.python_implementation(), "version": platform.python_version()}
    for version in reversed(list_versions(tiers).get(PYTHON_STDLIB, [])):
        manifest = read_dataset(tiers, PYTHON_STDLIB, version)
        if interpreter.items() <= manifest.provenance.details.items():
            check_sizes(tiers, manifest)
            return manifest
    folder = Path(sysconfig.get_path("stdlib")) if folder is None else folder
    files = list(_collect(folder))
    if not files:
        raise NotFound(
            f"{folder}: found no .py file of the standard library", hint="use an interpreter with its sources"
        )
    provenance = SourceProvenance(
        origin=f"Python standard library sources of {' '.join(interpreter.values())}, https://docs.python.org/3/license.html",
        collected_at=clock.now(),
        collected_by=f"nexa-compute {metadata.version('nexa-compute')}",
        details={**interpreter, "files": len(files), "folders_left_out": " ".join(sorted(LEFT_OUT))},
        source_files=tuple(file.digest for file in files),
    )
    description = DatasetDescription(
        name=PYTHON_STDLIB,
        provenance=provenance,
        licence="PSF-2.0",
        text="The Python standard library's own modules, one row a file: its path in the library and its text.",
    )
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / f"{PYTHON_STDLIB}.parquet"
        _write_parquet(files, path)
        return register_dataset(tiers, [path], description, clock=clock)


def _collect(folder: Path) -> Iterator[_SourceFile]:
    # Sorted by the whole relative path, so the rows stand in the same order on every machine.
    for name in sorted(_list_names(folder)):
        path = folder / name
        with tokenize.open(path) as stream:  # by the file's own coding line
            text = stream.read()
        if not text.strip():
            continue
        raw = path.read_bytes()
        digest = FileDigest(path=name, size_bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest())
        yield _SourceFile(path=name, text=text, digest=digest)


def _list_names(folder: Path) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in LEFT_OUT]
        base = Path(parent).relative_to(folder)
        for name in files:
            # _sysconfigdata holds the paths of the machine that compiled the interpreter.
            if name.endswith(".py") and not name.startswith("_sysconfigdata"):
                yield (base / name).as_posix()


def _write_parquet(files: list[_SourceFile], path: Path) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("train", package="pyarrow", needed_for=f"building the dataset {PYTHON_STDLIB}") from error
    table = pyarrow.table(
        {
            "path": pyarrow.array([file.path for file in files], pyarrow.string()),
            "text": pyarrow.array([file.text for file in files], pyarrow.string()),
        }
    )
    parquet.write_table(table, path, compression="zstd")


BUILT_IN_SOURCES: dict[str, Callable[[Tiers, Clock], DatasetManifest]] = {
    PYTHON_STDLIB: lambda tiers, clock: ensure_python_stdlib(tiers, clock=clock)
}
"""By name: what returns the dataset, building it when it must."""
