"""Files that appear whole or not at all, and stay after a power cut.

Every write goes to a temporary name in the same folder, is flushed to the disk, and is then named in one step; the
folder is flushed too, because a name is data of the folder. A flush that fails is never tried again: the kernel may
have dropped the pages and would report success.
Source: https://lwn.net/Articles/752063/ (PostgreSQL's fsync surprise).
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nexa_contracts.clock import Clock
from nexa_contracts.errors import AlreadyExists, StorageError

logger = logging.getLogger(__name__)

TEMPORARY_SUFFIX = ".tmp"
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})
_HINTS = {
    errno.ENOSPC: "free space there; a tier can be put elsewhere under `tiers` in nexa.yaml",
    errno.EDQUOT: "the quota is used up: remove files; a tier can be put elsewhere under `tiers` in nexa.yaml",
    errno.EROFS: "remount it writable; a tier can be put elsewhere under `tiers` in nexa.yaml",
    errno.EACCES: "give this user the right to write there",
    errno.EPERM: "give this user the right to write there",
    errno.EIO: "the disk or the network file system reports an error: see `dmesg`, do not trust the medium",
    errno.ESTALE: "the network file system was mounted again: start anew",
    errno.ENAMETOOLONG: "use a shorter name",
}
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100


@contextmanager
def storage_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn an OSError within into a StorageError that names the path, what was being done and the reason."""
    try:
        yield
    except OSError as error:
        raise _explain(error, path, doing) from error


def create_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file that did not exist; it appears whole, and when this returns it stays.

    Raises:
        AlreadyExists: the file is there; it is left as it was.
        StorageError: the disk is full, read-only or broken; nothing is visible, except when only flushing the folder
            failed.
    """
    with storage_errors(path, "writing"):
        make_folder(path.parent)
        temporary = _write_temporary(path, data, mode)
        try:
            _link_exclusively(temporary, path)
        except FileExistsError as error:
            raise AlreadyExists(f"{path}: exists already; it is written once and never changed") from error
        finally:
            _remove(temporary)
        fsync_dir(path.parent)


def replace_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file, replacing the one that was there; a reader sees the old or the new one, whole.

    Raises:
        StorageError: the disk is full, read-only or broken; the old file is still there.
    """
    with storage_errors(path, "writing"):
        make_folder(path.parent)
        temporary = _write_temporary(path, data, mode)
        try:
            temporary.replace(path)
        except BaseException:
            _remove(temporary)
            raise
        fsync_dir(path.parent)


def append_line(path: Path, data: bytes, *, flush: bool = False) -> None:
    """Append one line in one write, so that lines of several processes do not mix; `flush` also forces it to disk.

    The final newline is added when it is missing. A process killed in the middle can leave half a line: readers skip
    a last line without a newline.

    Raises:
        StorageError: the disk is full, read-only or broken.
    """
    line = data if data.endswith(b"\n") else data + b"\n"
    with storage_errors(path, "appending"):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:
            make_folder(path.parent)
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            written = os.write(descriptor, line)
            if written < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if flush:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(path: Path) -> None:
    """Create a folder and its parents where they are missing, and flush the folders that name the new ones.

    Raises:
        StorageError: it cannot be created, or something else has its name.
    """
    missing: list[Path] = []
    folder = path
    with storage_errors(path, "creating the folder"):
        while not folder.is_dir() and folder.parent != folder:
            missing.append(folder)
            folder = folder.parent
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            fsync_dir(folder.parent)


def fsync_dir(path: Path) -> None:
    """Flush a folder, so that the names in it stay after a power cut.

    Raises:
        StorageError: the disk reports an error.
    """
    with storage_errors(path, "flushing the folder"):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def rename_exclusively(source: Path, target: Path) -> None:
    """Rename a file or folder to a name that is free; both lie on one file system.

    Raises:
        AlreadyExists: something has that name.
        StorageError: the file system refuses.
    Source: https://man7.org/linux/man-pages/man2/rename.2.html (RENAME_NOREPLACE).
    """
    with storage_errors(target, "renaming to this name"):
        try:
            _rename_no_replace(source, target)
        except OSError as error:
            if error.errno in {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR}:
                raise AlreadyExists(f"{target}: exists already") from error
            raise


def sweep_temporary(folder: Path, *, older_than_s: float, clock: Clock) -> int:
    """Remove leftovers of writers that were killed; return how many files went.

    Younger ones may belong to a writer that is at work. Age is by the folder's file system against this machine's
    wall clock, so leave a margin of minutes.
    """
    removed = 0
    limit = clock.now().timestamp() - older_than_s
    with storage_errors(folder, "sweeping"):
        if not folder.is_dir():
            return 0
        for entry in os.scandir(folder):
            if not (entry.name.startswith(".") and entry.name.endswith(TEMPORARY_SUFFIX)):
                continue
            try:
                if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime <= limit:
                    Path(entry.path).unlink()
                    removed += 1
            except FileNotFoundError:
                continue  # its writer, or another sweeper, was faster
    return removed


def _explain(error: OSError, path: Path, doing: str) -> StorageError:
    reason = error.strerror or str(error)
    return StorageError(f"{path}: {doing} failed: {reason[:1].lower()}{reason[1:]}", hint=_HINTS.get(error.errno or 0))


def _write_temporary(path: Path, data: bytes, mode: int) -> Path:
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}{TEMPORARY_SUFFIX}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        _remove(temporary)
        raise
    return temporary


def _link_exclusively(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        # Over NFS the reply to a link that was made can be lost, and the repeated request finds it made: two names
        # for the file say that the link is ours. Source: open(2), the note on O_EXCL.
        if temporary.stat().st_nlink != 2:
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_no_replace(temporary, path)


def _rename_no_replace(source: Path, target: Path) -> None:
    if sys.platform == "linux":
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        if hasattr(libc, "renameat2"):
            names = os.fsencode(source), os.fsencode(target)
            if libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE) == 0:
                return
            code = ctypes.get_errno()
            if code not in {errno.EINVAL, errno.ENOSYS}:
                raise OSError(code, os.strerror(code), str(source), None, str(target))
    # Some file systems (NFS) do not know the flag. A folder that is not empty is never replaced by a rename, so for
    # sealed folders the check below decides nothing; for a file it leaves a short moment to a racing writer.
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    source.rename(target)


def _remove(temporary: Path) -> None:
    try:
        temporary.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("temporary file is left path=%s reason=%s", temporary, error)
