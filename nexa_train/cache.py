"""Folders that are built once and shared by every trial of a sweep."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nexa_infra.storage.atomic import fsync_dir, make_folder, rename_exclusively, storage_errors

logger = logging.getLogger(__name__)


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """Return the folder, built by whoever comes first; the others wait for it.

    It appears whole or not at all: a builder that is killed leaves a temporary folder, which the next one removes.
    The name must hold a digest of everything the contents depend on, for nothing is ever built twice.

    Raises:
        StorageError: scratch is full, read-only or broken.
    """
    if folder.is_dir():
        return folder
    make_folder(folder.parent)
    with _locked(folder.with_name(f"{folder.name}.lock")):
        if folder.is_dir():
            return folder
        for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)  # its builder held the lock and is gone
        temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
        started = time.monotonic()
        with storage_errors(folder, "building"):
            temporary.mkdir()
            try:
                build(temporary)
                _flush(temporary)
                rename_exclusively(temporary, folder)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            fsync_dir(folder.parent)
        logger.info("built %s in %.1f s", folder.name, time.monotonic() - started)
    return folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    # The kernel lets go of the lock when its holder dies, however it dies.
    with storage_errors(path, "locking"):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _flush(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    fsync_dir(folder)
