"""Many small files of one folder, created exclusively and durably at the price of a few.

A flush of each would wait a thousand times for what one flush of their file system does in milliseconds. Each file
still appears whole or not at all.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from nexa_contracts.errors import AlreadyExists
from nexa_infra.storage.atomic import TEMPORARY_SUFFIX, create_file, fsync_dir, make_folder, storage_errors
from nexa_infra.storage.flushing import can_flush_file_system, flushing_file_system
from nexa_infra.storage.journal import journaled

logger = logging.getLogger(__name__)

PIECE = 1024
"""Files between two flushes of the folder."""
FEW = 8
"""Up to so many are flushed one by one: to flush a file system is to wait for all that others have written to it."""


def create_batch(folder: Path, files: Iterable[tuple[str, bytes]]) -> int:
    """Create files, given as name and content, in one folder, and record them in its journal; return how many.

    Raises:
        AlreadyExists: a name is taken; the files of the pieces before it stay, and some of its own may.
        StorageError: the disk is full, read-only or broken; the same holds.
    """
    count = 0
    for piece in _cut(folder, files):
        names: list[str] = []
        with journaled(folder, names):
            taken = _create_piece(folder, piece, names)
        if taken:
            raise AlreadyExists(f"{folder / taken[0]}: exists already; it is written once and never changed")
        count += len(names)
    return count


def create_missing(folder: Path, files: Iterable[tuple[str, bytes]], *, has_journal: bool) -> frozenset[str]:
    """Create those of these files that are not there, and return their names; the others are left as they are.

    Raises:
        StorageError: the disk is full, read-only or broken; some may be there.
    """
    created: set[str] = set()
    for piece in _cut(folder, files):
        names: list[str] = []
        with journaled(folder, names) if has_journal else nullcontext():
            taken = _create_piece(folder, piece, names)
        created.update(set(names).difference(taken))
    return frozenset(created)


@dataclass(frozen=True, slots=True)
class _Piece:
    files: Iterable[tuple[str, bytes]]
    is_large: bool


def _cut(folder: Path, files: Iterable[tuple[str, bytes]]) -> Iterator[_Piece]:
    make_folder(folder)
    remaining = iter(files)
    while first := list(islice(remaining, FEW + 1)):
        yield _Piece(chain(first, islice(remaining, PIECE - len(first))), is_large=len(first) > FEW)


def _create_piece(folder: Path, piece: _Piece, names: list[str]) -> list[str]:
    """Create the files of a piece and note the names of all; return those that were taken."""
    # Beside their final names: a new folder for them would cost more than all else, as it lies elsewhere on the disk.
    mark = secrets.token_hex(6)
    temporary: list[str] = []
    with storage_errors(folder, "writing"):
        try:
            with _flushed(folder, together=piece.is_large) as is_each_flushed:
                for name, data in piece.files:
                    temporary.append(f"{folder}/.{name}.{mark}{TEMPORARY_SUFFIX}")
                    _write(temporary[-1], data, flush=is_each_flushed)
                    names.append(name)
            pairs = zip(temporary, names, strict=True)
            taken = [name for path, name in pairs if not _link(path, f"{folder}/{name}")]
        finally:
            for path in temporary:
                _remove(path)
        fsync_dir(folder)
    return taken


@contextmanager
def _flushed(folder: Path, *, together: bool) -> Iterator[bool]:
    """Yield whether each file is to be flushed by itself, because they are not flushed together at the end."""
    if together and can_flush_file_system():
        with flushing_file_system(folder):
            yield False
    else:
        yield True


def _write(path: str, data: bytes, *, flush: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        if flush:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link(temporary: str, path: str) -> bool:
    """Give a file its name and return whether the name was free."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:
        try:
            # A file system without hard links has another way, or says what is wrong.
            create_file(Path(path), Path(temporary).read_bytes())
        except AlreadyExists:
            return False
    return True


def _remove(path: str) -> None:
    try:
        os.unlink(path)  # noqa: PTH108 - a thousand paths
    except OSError as error:
        logger.debug("temporary file is left path=%s reason=%s", path, error)  # it is swept, and read by nobody
