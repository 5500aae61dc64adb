"""Many small files of one folder, created exclusively and durably at the price of a few.

A flush costs milliseconds of waiting and hardly any CPU, and the file system joins flushes that wait together, so the
files of a piece are flushed by several threads and their folder once. Each file still appears whole or not at all.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from nexa_contracts.errors import AlreadyExists
from nexa_infra.storage.atomic import TEMPORARY_SUFFIX, create_file, fsync_dir, make_folder, storage_errors
from nexa_infra.storage.journal import journaled

WORKERS = 16
PIECE = 256
"""Files between two flushes of the folder; also what is held in memory at a time."""


def create_batch(folder: Path, files: Iterable[tuple[str, bytes]]) -> int:
    """Create files, given as name and content, in one folder, and record them in its journal; return how many.

    Raises:
        AlreadyExists: a name is taken; the files of the pieces before it stay, and some of its own may.
        StorageError: the disk is full, read-only or broken; the same holds.
    """
    make_folder(folder)
    remaining = iter(files)
    count = 0
    with ThreadPoolExecutor(WORKERS) as pool:
        while piece := list(islice(remaining, PIECE)):
            with journaled(folder, [name for name, _ in piece]):
                _create_piece(folder, piece, pool)
            count += len(piece)
    return count


def _create_piece(folder: Path, piece: list[tuple[str, bytes]], pool: ThreadPoolExecutor) -> None:
    staging = folder / f".batch.{secrets.token_hex(6)}{TEMPORARY_SUFFIX}"
    with storage_errors(folder, "writing"):
        staging.mkdir()
        try:
            for _ in pool.map(lambda item: _write(staging / item[0], item[1]), piece):
                pass
            for name, data in piece:
                _link(staging / name, folder / name, data)
        finally:
            shutil.rmtree(staging, ignore_errors=True)  # what stays of it begins with a dot and is read by nobody
        fsync_dir(folder)


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link(temporary: Path, path: Path, data: bytes) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError as error:
        raise AlreadyExists(f"{path}: exists already; it is written once and never changed") from error
    except OSError:
        create_file(path, data)  # a file system without hard links has another way, or says what is wrong
