"""Intents: what is being promoted, on the disk before anything else is, so that a crash leaves a trace to settle.

The owner holds a file lock on its intent for as long as it lives: the kernel lets go of it when the process ends,
however it ends, and on a shared file system also when it ran on another machine. A lock that is free therefore means
that nobody is at work on that name.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from nexa_contracts.clock import Clock
from nexa_contracts.errors import AlreadyExists, StorageError
from nexa_infra.storage.atomic import create_file, storage_errors
from nexa_infra.storage.layout import Tiers


@dataclass(frozen=True, slots=True)
class Claim:
    """A locked intent: the right to work on one name, until it is finished or released."""

    name: str
    path: Path
    descriptor: int

    def finish(self) -> None:
        """Remove the intent and let go: nothing is left to settle. Not flushed: a stale intent is settled again."""
        with storage_errors(self.path, "removing"):
            try:
                self.path.unlink(missing_ok=True)
            finally:
                os.close(self.descriptor)

    def release(self) -> None:
        """Let go and leave the intent: whoever comes next settles it."""
        os.close(self.descriptor)


def create_claim(tiers: Tiers, name: str, *, source: Path, clock: Clock) -> Claim | None:
    """Write the intent to promote `source` under a name, and hold it; None when there is one already.

    Raises:
        StorageError: the durable tier cannot be written, or knows no file locks.
    """
    path = tiers.intent(name)
    content = {
        "schema_version": 1,
        "name": name,
        "source": str(source),
        "hostname": platform.node(),
        "pid": os.getpid(),
        "created_at": clock.now().isoformat(),
    }
    try:
        create_file(path, (json.dumps(content, indent=2) + "\n").encode())
    except AlreadyExists:
        return None
    # Between these two lines another process may find the intent free and settle it; then we start over.
    return take_claim(tiers, name, wait=False)


def take_claim(tiers: Tiers, name: str, *, wait: bool) -> Claim | None:
    """Return the claim on an intent that nobody holds, waiting for its owner to finish or die when `wait`.

    None when the intent is gone, or held and not waited for.

    Raises:
        StorageError: the intent cannot be read, or the file system knows no file locks.
    """
    path = tiers.intent(name)
    try:
        with storage_errors(path, "reading"):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    claim = Claim(name, path, descriptor)
    try:
        if _lock(path, descriptor, wait) and _is_current(path, descriptor):
            return claim
    except BaseException:
        claim.release()
        raise
    claim.release()
    return None


def list_intents(tiers: Tiers) -> tuple[str, ...]:
    """Return the names that are being promoted, or were when their promoter died.

    Raises:
        StorageError: the folder cannot be read.
    """
    with storage_errors(tiers.intents, "reading the folder"):
        if not tiers.intents.is_dir():
            return ()
        names = (entry.name for entry in os.scandir(tiers.intents))
        return tuple(sorted(name.removesuffix(".json") for name in names if name.endswith(".json")))


def _lock(path: Path, descriptor: int, wait: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}:
            raise StorageError(
                f"{path}: the file system knows no file locks, without which two promotions could collide",
                hint="mount it with locks (Lustre: -o flock; NFS: without nolock)",
            ) from error
        with storage_errors(path, "locking"):
            raise
    return True


def _is_current(path: Path, descriptor: int) -> bool:
    # Whoever held the lock before may have removed the file, and someone may have written another since.
    try:
        found, ours = path.stat(), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)
