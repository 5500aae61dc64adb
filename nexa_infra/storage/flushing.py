"""A whole file system flushed to the disk: for thousands of small files, where a flush of each would wait each time."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nexa_infra.storage.atomic import storage_errors


def can_flush_file_system() -> bool:
    """Whether this system can flush one file system; Linux can, macOS cannot."""
    return _syncfs() is not None


@contextmanager
def flushing_file_system(folder: Path) -> Iterator[None]:
    """Flush the file system that a folder lies on when the body is done, files and folders alike.

    What else is waiting to be written there is flushed with it. Not for systems that cannot: ask
    `can_flush_file_system` first.

    Raises:
        StorageError: something written since the body began did not reach the disk.
    Source: syncfs(2): from Linux 5.8 it reports every write that failed since the descriptor was opened.
    """
    with storage_errors(folder, "flushing"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield
        syncfs = _syncfs()
        with storage_errors(folder, "flushing"):
            if syncfs is None or syncfs(descriptor) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)


@functools.cache
def _syncfs() -> Callable[[int], int] | None:
    # Python has no name for it.
    function: Callable[[int], int] | None = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    return function
