"""A run's log: on scratch while an attempt goes on, in the run's folder once it ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nexa_contracts.clock import Clock
from nexa_infra.scheduling.evidence import hide_secrets
from nexa_infra.storage.atomic import TEMPORARY_SUFFIX, fsync_dir, make_folder, storage_errors
from nexa_infra.storage.layout import Tiers
from nexa_infra.storage.run_dir import RunDir

_POLL_S = 0.2
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is: the number of its newest attempt (0: none yet), and whether no other will follow."""

    attempt: int
    is_final: bool


def scratch_log(scratch: Path, run_id: str, attempt: int) -> Path:
    """Return where the log of an attempt is written, known before it starts."""
    # Only scratch counts for this path.
    folder = Tiers(scratch=scratch, durable=scratch, shared=scratch).logs_temp(run_id)
    return folder / RunDir(folder).log(attempt).name


def keep_log(log: BinaryIO, target: Path, *, hidden: Collection[str]) -> None:
    """Copy an open log to where it stays, whole or not at all, values of secrets replaced.

    Raises:
        StorageError: the disk is full, read-only or broken; nothing is left at `target`.
    """
    with storage_errors(target, "keeping the log"):
        make_folder(target.parent)
        temporary = target.with_name(f".{target.name}.{os.urandom(6).hex()}{TEMPORARY_SUFFIX}")
        try:
            with temporary.open("wb") as copy:
                for chunk in _read_chunks(log, hidden):
                    copy.write(chunk)
                copy.flush()
                os.fsync(copy.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        fsync_dir(target.parent)


def read_log(
    find_log: Callable[[int], Path | None], read_progress: Callable[[], Progress], *, follow: bool, clock: Clock
) -> Iterator[str]:
    """Return the lines of a job's log, attempt after attempt; with `follow` until no other attempt will follow.

    `find_log` says where the log of an attempt lies now, None while there is none.
    """
    attempt = 1
    while True:
        progress = read_progress()
        if attempt <= progress.attempt:
            yield from _read_attempt(attempt, find_log, read_progress, follow=follow, clock=clock)
            attempt += 1
        elif progress.is_final or not follow:
            return
        else:
            clock.sleep(_POLL_S)


def _read_attempt(
    attempt: int,
    find_log: Callable[[int], Path | None],
    read_progress: Callable[[], Progress],
    *,
    follow: bool,
    clock: Clock,
) -> Iterator[str]:
    log: BinaryIO | None = None
    rest = b""
    try:
        while True:
            # Asked before reading: what is written until the end is then read after it.
            progress = read_progress()
            is_over = progress.is_final or progress.attempt > attempt
            if log is None:
                log = _open(find_log(attempt)) or _open(find_log(attempt))
            while log is not None and (chunk := log.read(_CHUNK_BYTES)):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (_decode(line) for line in lines)
            if is_over or not follow:
                break
            clock.sleep(_POLL_S)
        if rest:
            yield _decode(rest)
    finally:
        if log is not None:
            log.close()


def _open(path: Path | None) -> BinaryIO | None:
    try:
        return None if path is None else path.open("rb")
    except FileNotFoundError:
        return None  # it was moved just now; a second look finds it where it stays


def _read_chunks(log: BinaryIO, hidden: Collection[str]) -> Iterator[bytes]:
    log.seek(0)
    # By lines, so that no value is cut in two; a secret of several lines is hidden line by line.
    values = {part for text in hidden for part in text.splitlines()}
    while chunk := log.readline(_CHUNK_BYTES) if values else log.read(_CHUNK_BYTES):
        yield (
            chunk
            if not values
            else hide_secrets(chunk.decode(errors="surrogateescape"), values).encode(errors="surrogateescape")
        )


def _decode(line: bytes) -> str:
    return line.decode(errors="replace").removesuffix("\r")
