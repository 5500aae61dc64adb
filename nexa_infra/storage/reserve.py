"""Room on a disk, taken beforehand, for a small file that must be written even when the disk has become full."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from nexa_contracts.errors import StorageError
from nexa_infra.storage.atomic import TEMPORARY_SUFFIX, fsync_dir, make_folder, rename_exclusively, storage_errors

logger = logging.getLogger(__name__)


def reserve_room(path: Path, size_bytes: int) -> bool:
    """Take the room for a file that `create_in_room` may write later; return False when the disk gives none.

    File systems that write every block to a new place (ZFS) give room that does not hold.
    """
    room = _room(path)
    try:
        make_folder(path.parent)
        with storage_errors(room, "reserving room"):
            descriptor = os.open(room, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, size_bytes)
            finally:
                os.close(descriptor)
    except StorageError as error:
        logger.info("no room reserved: %s", error)
        release_room(path)
        return False
    return True


def create_in_room(path: Path, data: bytes) -> None:
    """Write a file that did not exist, in the room that was reserved for it; it appears whole, and then it stays.

    Raises:
        AlreadyExists: the file is there; it is left as it was.
        StorageError: the disk is read-only or broken, or full and nothing, or too little, was reserved.
    """
    room = _room(path)
    make_folder(path.parent)
    with storage_errors(path, "writing"):
        # Over the reserved bytes: given back and taken anew, they could be another program's by then.
        descriptor = os.open(room, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            view, offset = memoryview(data), 0
            while offset < len(data):
                offset += os.pwrite(descriptor, view[offset:], offset)
            os.ftruncate(descriptor, len(data))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        rename_exclusively(room, path)
        fsync_dir(path.parent)


def release_room(path: Path) -> None:
    """Give the reserved room back, and remove the file that was written in it."""
    for each in (_room(path), path):
        try:
            each.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("reserved room is left path=%s reason=%s", each, error)


def _room(path: Path) -> Path:
    return path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")
