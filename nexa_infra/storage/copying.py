"""Trees copied and hashed in one pass over the bytes, every file flushed to the disk.

A file is read once; reading, hashing and writing each have a thread, and writes go around the page cache, so that the
disk works from the start instead of waiting for the flush at the end. Small files are flushed side by side, or, when
they are many, all at once. Measured by benchmarks/promotion.py.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import mmap
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from nexa_contracts.dataset import FileDigest
from nexa_contracts.errors import StorageError
from nexa_infra.storage.atomic import fsync_dir, storage_errors
from nexa_infra.storage.flushing import can_flush_file_system, flushing_file_system

logger = logging.getLogger(__name__)

_LARGE_BYTES = 4 * 1024 * 1024
"""From here a file gets threads of its own; below, starting them costs more than it gains."""
_BUFFER_BYTES = 8 * 1024 * 1024
_BUFFERS = 5
"""One with each of the three threads, and two on their way."""
_FLUSHED_AT_ONCE = 256
"""From so many small files, one flush of the whole file system is faster than one of each, whatever else it flushes."""
_LARGE_FILE_THREADS = 2


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a tree as it was found: its path in the tree with forward slashes, and its size."""

    path: str
    size_bytes: int


def list_tree(folder: Path, *, ignore: Callable[[str], bool] | None = None) -> tuple[SourceFile, ...]:
    """Return the files of a tree, sorted by path; folders without files are not part of it.

    `ignore` is asked with each path.

    Raises:
        StorageError: the folder cannot be read, or holds a symbolic link, a device, a pipe, a socket, or a name that
            is not UTF-8; each is named.
    """
    found: list[SourceFile] = []
    with storage_errors(folder, "reading the folder"):
        for path, entry in _walk(folder, ""):
            if ignore is not None and ignore(path):
                continue
            information = entry.stat(follow_symlinks=False)
            if not stat.S_ISREG(information.st_mode):
                kind = "a symbolic link" if entry.is_symlink() else "not a regular file"
                raise StorageError(
                    f"{folder}: {path} is {kind}; allowed in an artifact: files and folders",
                    hint="replace it by the file itself, or remove it",
                )
            found.append(SourceFile(path, information.st_size))
    return tuple(sorted(found, key=lambda file: file.path))


def copy_tree(source: Path, target: Path, *, files: Sequence[SourceFile]) -> tuple[FileDigest, ...]:
    """Copy files of a tree into an existing folder; return the digest of the bytes written, in the order given.

    When this returns, files and folders stay after a power cut. The target must not hold any of them.

    Raises:
        StorageError: a file cannot be read or written, is not as long as it was listed, or the disk is full.
    """
    folders = sorted({parent for file in files for parent in Path(file.path).parents})
    with storage_errors(target, "creating folders"):
        for folder in folders:
            (target / folder).mkdir(exist_ok=True)
    small_files = sum(file.size_bytes < _LARGE_BYTES for file in files)
    if small_files < _FLUSHED_AT_ONCE or not can_flush_file_system():
        digests = _in_threads(files, lambda file: _copy_file(source, target, file, flush=True))
        for folder in reversed(folders):
            fsync_dir(target / folder)
        return digests
    with flushing_file_system(target):
        return _in_threads(files, lambda file: _copy_file(source, target, file, flush=False), small_file_threads=1)


def hash_tree(folder: Path, files: Sequence[SourceFile]) -> tuple[FileDigest, ...]:
    """Return the digest of each file, in the order given.

    Raises:
        StorageError: a file cannot be read, or changes while it is read.
    """

    return _in_threads(files, lambda file: hash_file(folder / file.path, file))


def hash_file(path: Path, listed: SourceFile | None = None) -> str:
    """Return the sha256 of a file as hexadecimal text.

    Raises:
        StorageError: it cannot be read, or is not as long as it was listed.
    """
    digest = hashlib.sha256()
    total = 0
    with storage_errors(path, "reading"), path.open("rb", buffering=0) as stream:
        _read_ahead(stream.fileno())
        buffer = memoryview(bytearray(min(_BUFFER_BYTES, os.fstat(stream.fileno()).st_size + 1)))
        while count := stream.readinto(buffer):
            digest.update(buffer[:count])
            total += count
    _check_length(path, total, listed)
    return digest.hexdigest()


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        path = prefix + entry.name
        try:
            path.encode()
        except UnicodeEncodeError:
            raise StorageError(f"{folder}: {entry.name!r} is not a UTF-8 name; allowed in an artifact: UTF-8") from None
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(folder / entry.name, path + "/")
        else:
            yield path, entry


def _in_threads(
    files: Sequence[SourceFile], digest: Callable[[SourceFile], str], *, small_file_threads: int = 16
) -> tuple[FileDigest, ...]:
    # Small files that are flushed one by one wait for the disk, not for a core.
    # The largest first, so that no thread is left alone with it at the end.
    large = sorted((file for file in files if file.size_bytes >= _LARGE_BYTES), key=lambda file: -file.size_bytes)
    small = [file for file in files if file.size_bytes < _LARGE_BYTES]
    digests: dict[str, str] = {}
    failed = threading.Event()

    def take_from(waiting: Iterator[SourceFile]) -> None:
        # A thread takes file after file: a future for each of thousands cost more than their copying.
        try:
            for file in waiting:
                if failed.is_set():
                    return
                digests[file.path] = digest(file)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(_LARGE_FILE_THREADS + small_file_threads, "copy") as pool:
        threads = []
        try:
            for some, count in ((large, _LARGE_FILE_THREADS), (small, small_file_threads)):
                waiting = iter(some)
                threads += [pool.submit(take_from, waiting) for _ in range(min(count, len(some)))]
            for thread in threads:
                thread.result()
        except BaseException:
            failed.set()  # an interrupt comes here and not to the threads, which would go through all that remains
            raise
    return tuple(FileDigest(path=file.path, size_bytes=file.size_bytes, sha256=digests[file.path]) for file in files)


def _copy_file(source: Path, target: Path, file: SourceFile, *, flush: bool) -> str:
    path = target / file.path
    with storage_errors(source / file.path, "reading"):
        reader = os.open(source / file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        mode = stat.S_IMODE(os.fstat(reader).st_mode) & 0o777
        with storage_errors(path, "writing"):
            writer = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            try:
                total, digest = _pipe(source / file.path, reader, writer, size_bytes=file.size_bytes)
                _check_length(source / file.path, total, file)
                if flush:
                    os.fsync(writer)
            finally:
                os.close(writer)
    finally:
        os.close(reader)
    return digest


def _pipe(source: Path, reader: int, writer: int, *, size_bytes: int) -> tuple[int, str]:
    if size_bytes >= _LARGE_BYTES:
        return _pipe_large(source, reader, writer)
    digest = hashlib.sha256()
    total = 0
    # A byte more than was listed, so that one read takes all; asking for much more costs more than the copying.
    while data := _read(source, reader, size_bytes + 1):
        digest.update(data)
        _write_all(writer, memoryview(data))
        total += len(data)
    return total, digest.hexdigest()


def _read(source: Path, reader: int, size_bytes: int) -> bytes:
    with storage_errors(source, "reading"):  # to the caller, an OSError is the target's
        return os.read(reader, size_bytes)


def _pipe_large(source: Path, reader: int, writer: int) -> tuple[int, str]:
    # A buffer goes free -> filled by one thread -> hashed by another -> written by this one -> free.
    digest = hashlib.sha256()
    free: SimpleQueue[memoryview | None] = SimpleQueue()
    filled: SimpleQueue[memoryview | None] = SimpleQueue()
    hashed: SimpleQueue[memoryview | None] = SimpleQueue()
    for _ in range(_BUFFERS):
        free.put(memoryview(mmap.mmap(-1, _BUFFER_BYTES)))  # at a page boundary, which direct writes need

    def read() -> None:
        try:
            with storage_errors(source, "reading"):
                while (buffer := free.get()) is not None and (count := _fill(reader, buffer)):
                    filled.put(buffer[:count])
        finally:
            filled.put(None)

    def take_digest() -> None:
        try:
            while (content := filled.get()) is not None:
                digest.update(content)
                hashed.put(content)
        finally:
            hashed.put(None)

    total = 0
    _write_around_the_cache(writer)
    with ThreadPoolExecutor(2, "copy-pipe") as others:
        try:
            stages = [others.submit(read), others.submit(take_digest)]  # without the second nothing would come free
            while (content := hashed.get()) is not None:
                _write_all(writer, content)
                total += len(content)
                free.put(content)  # shorter than a buffer only at the end of the file
        finally:
            free.put(None)
        for stage in stages:
            stage.result()
    return total, digest.hexdigest()


def _fill(reader: int, buffer: memoryview) -> int:
    # Only the last write may have an odd length.
    filled = 0
    while filled < len(buffer) and (count := os.readv(reader, [buffer[filled:]])):
        filled += count
    return filled


def _write_all(writer: int, view: memoryview) -> None:
    while view:
        try:
            view = view[os.write(writer, view) :]
        except OSError as error:
            # The odd end of a file, or a file system that wants larger blocks: the rest goes through the cache.
            if error.errno != errno.EINVAL or not _write_through_the_cache(writer):
                raise


def _write_around_the_cache(writer: int) -> None:
    # Direct writes need 40 % less CPU than those through the page cache, keep the disk busy from the start, and do not
    # push the training's own data out of memory. A file system that does not know them says so. Source: open(2).
    if hasattr(os, "O_DIRECT"):
        try:
            fcntl.fcntl(writer, fcntl.F_SETFL, fcntl.fcntl(writer, fcntl.F_GETFL) | os.O_DIRECT)
        except OSError as error:
            logger.debug("no direct writes here: %s", error)


def _write_through_the_cache(writer: int) -> bool:
    # False when it did already.
    flags = fcntl.fcntl(writer, fcntl.F_GETFL)
    if not hasattr(os, "O_DIRECT") or not flags & os.O_DIRECT:
        return False
    fcntl.fcntl(writer, fcntl.F_SETFL, flags & ~os.O_DIRECT)
    return True


def _read_ahead(reader: int) -> None:
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(reader, 0, 0, os.POSIX_FADV_SEQUENTIAL)


def _check_length(path: Path, found: int, listed: SourceFile | None) -> None:
    if listed is not None and found != listed.size_bytes:
        raise StorageError(
            f"{path}: {found} bytes were read, {listed.size_bytes} listed: it changes while it is read",
            hint="wait until its writer is done",
        )
