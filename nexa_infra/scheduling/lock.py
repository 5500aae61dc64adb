"""A lock between processes: the kernel gives it to one and takes it back however that one ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from nexa_contracts.clock import Clock
from nexa_infra.storage.atomic import make_folder, storage_errors

_POLL_S = 0.05


class FileLock:
    """An exclusive lock on a file, which children do not inherit."""

    def __init__(self, path: Path) -> None:
        """Open the file; nothing is locked yet.

        Raises:
            StorageError: it cannot be opened.
        """
        self._path = path
        make_folder(path.parent)
        with storage_errors(path, "opening the lock"):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def acquire(self, *, wait_s: float, clock: Clock) -> bool:
        """Return whether the lock is ours, after waiting for it at most so long.

        Raises:
            StorageError: the file system keeps no locks.
        """
        deadline_s = clock.monotonic_s() + wait_s
        while not self._try(fcntl.LOCK_EX):
            if clock.monotonic_s() >= deadline_s:
                return False
            clock.sleep(_POLL_S)
        return True

    def release(self) -> None:
        """Give the lock back."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def is_held_by_another(self) -> bool:
        """Whether another process has it.

        Looking takes a shared lock for a moment, so that two who look do not see each other.
        """
        if not self._try(fcntl.LOCK_SH):
            return True
        self.release()
        return False

    def is_in_place(self) -> bool:
        """Whether the file we opened still lies there; a lock on a file that was removed keeps nobody out."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def read_note(self) -> str:
        """Return what was last written into the file; empty at first."""
        return os.pread(self._descriptor, 4096, 0).decode(errors="replace")

    def write_note(self, text: str) -> None:
        """Write a short text into the file; only for whoever has the lock."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode(), 0)

    def _try(self, kind: int) -> bool:
        with storage_errors(self._path, "locking"):
            try:
                fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True
