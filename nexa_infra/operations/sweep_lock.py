"""One process at a time submits what a sweep lacks: its launch, or one resumption."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nexa_contracts.errors import StorageError
from nexa_infra.scheduling.lock import FileLock
from nexa_infra.storage.atomic import storage_errors

if TYPE_CHECKING:
    from nexa_infra.operations.context import Context

_LOCK_NAME = ".resume.lock"
_LOCK_WAIT_S = 120.0


@contextmanager
def hold_sweep(context: Context, sweep_id: str) -> Iterator[None]:
    """Keep everyone else from submitting what a sweep lacks, while it is launched or resumed.

    Raises:
        StorageError: another process does so, and does not come to its end; or its folder cannot be written.
    """
    path = context.project.run(sweep_id) / _LOCK_NAME
    with FileLock(path) as lock:
        if not lock.acquire(wait_s=_LOCK_WAIT_S, clock=context.clock):
            raise StorageError(
                f"{sweep_id}: its launch goes on ({lock.read_note() or 'in another process'})",
                hint=f"wait for it or end it, and then: nexa sweep --resume {sweep_id}",
            )
        with storage_errors(path, "writing"):
            lock.write_note(f"pid {os.getpid()} on {os.uname().nodename}")
        yield


def is_held(context: Context, sweep_id: str) -> bool:
    """Whether somebody submits what a sweep lacks at this moment; where that cannot be told, nobody does."""
    path = context.project.run(sweep_id) / _LOCK_NAME
    if not path.exists():
        return False
    try:
        with FileLock(path) as lock:
            return lock.is_held_by_another()
    except StorageError:
        return False  # a disk that is only read, or keeps no locks
