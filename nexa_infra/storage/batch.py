"""Many small files of one folder, created exclusively and durably at the price of a few.

A flush of each would wait a thousand times for what one flush of their file system does in milliseconds. Each file
still appears whole or not at all.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
    make_folder(folder)
    remaining = iter(files)
    count = 0
    while first := list(islice(remaining, FEW + 1)):
        names: list[str] = []
        with journaled(folder, names):
            _create_piece(folder, chain(first, islice(remaining, PIECE - len(first))), names, together=len(first) > FEW)
        count += len(names)
    return count


def _create_piece(folder: Path, files: Iterable[tuple[str, bytes]], names: list[str], *, together: bool) -> None:
    # Beside their final names: a new folder for them would cost more than all else, as it lies elsewhere on the disk.
    mark = secrets.token_hex(6)
    temporary: list[str] = []
    with storage_errors(folder, "writing"):
        try:
            with _flushed(folder, together=together) as is_each_flushed:
                for name, data in files:
                    temporary.append(f"{folder}/.{name}.{mark}{TEMPORARY_SUFFIX}")
                    _write(temporary[-1], data, flush=is_each_flushed)
                    names.append(name)
            for path, name in zip(temporary, names, strict=True):
                _link(path, f"{folder}/{name}")
        finally:
            for path in temporary:
                _remove(path)
        fsync_dir(folder)


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


def _link(temporary: str, path: str) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError as error:
        raise AlreadyExists(f"{path}: exists already; it is written once and never changed") from error
    except OSError:
        # A file system without hard links has another way, or says what is wrong.
        create_file(Path(path), Path(temporary).read_bytes())


def _remove(path: str) -> None:
    try:
        os.unlink(path)  # noqa: PTH108 - a thousand paths
    except OSError as error:
        logger.debug("temporary file is left path=%s reason=%s", path, error)  # it is swept, and read by nobody
