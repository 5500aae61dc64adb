"""The journal of the manifests folder: which files were created, and which of the folder's times they account for.

Listing 300,000 names costs 0.26 s of CPU, so the index asks the journal first. A writer appends one line after it
created files: the folder's modification time before and after, and the names. A reader that can explain the folder's
present time by these spans knows every name; when it cannot (a hand copy, `git pull`, a writer killed between the two
steps) it lists the folder. A journal that is missing, cut off or garbage only costs that listing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nexa_contracts.errors import StorageError
from nexa_infra.storage.atomic import append_line, create_file

logger = logging.getLogger(__name__)

JOURNAL_NAME = ".journal"
UNEXPLAINED_NS = 0
"""A time before which nothing can be explained: the reader must list the folder."""


@dataclass(frozen=True, slots=True)
class Span:
    """Files created while the folder's modification time went from one value to the other, in nanoseconds."""

    before_ns: int
    after_ns: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Position:
    """How far a journal has been read: its inode, and the byte after the last whole line."""

    inode: int
    offset: int


def create_journaled(path: Path, data: bytes) -> None:
    """Create a file exclusively and record it in its folder's journal.

    Raises:
        AlreadyExists: the file is there; it is left as it was.
        StorageError: the disk is full, read-only or broken.
    """
    with journaled(path.parent, (path.name,)):
        create_file(path, data)


@contextmanager
def journaled(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """Record in the folder's journal the files of these names that are created within, failed or not."""
    before_ns = _open_journal(folder)
    try:
        yield
    except BaseException:
        # Of several files some may be there. What went wrong is told by the error, and not by the journal too.
        _append(folder, names, before_ns, level=logging.DEBUG)
        raise
    _append(folder, names, before_ns, level=logging.WARNING)


def folder_mtime_ns(folder: Path) -> int:
    """Return when the folder's list of names last changed, in nanoseconds; UNEXPLAINED_NS when there is no folder."""
    try:
        return folder.stat().st_mtime_ns
    except FileNotFoundError:
        return UNEXPLAINED_NS


def find_end(folder: Path) -> Position:
    """Return the position after the journal's last byte; inode 0 when there is none."""
    try:
        status = (folder / JOURNAL_NAME).stat()
    except FileNotFoundError:
        return Position(inode=0, offset=0)
    return Position(inode=status.st_ino, offset=status.st_size)


def read_spans(folder: Path, start: Position) -> tuple[list[Span], Position] | None:
    """Return the spans after a position and the position after them; None when the journal no longer holds it.

    A last line without its newline is still being written and is left for the next reading. A line that is no span is
    passed over: what it would have explained stays unexplained, which the reader notices.
    """
    end = find_end(folder)
    if end.inode != start.inode or end.offset < start.offset:
        return None
    if end == start:
        return [], start
    with (folder / JOURNAL_NAME).open("rb") as stream:
        stream.seek(start.offset)
        raw = stream.read(end.offset - start.offset)
    whole = raw[: raw.rfind(b"\n") + 1]
    spans = [span for line in whole.splitlines() if (span := _parse(line)) is not None]
    return spans, Position(inode=start.inode, offset=start.offset + len(whole))


def explain(spans: Sequence[Span], known_ns: int, present_ns: int) -> bool:
    """Whether the spans lead without a gap from the time the reader knew to the folder's present one."""
    covered_ns = known_ns
    for span in sorted(spans, key=lambda span: span.before_ns):
        if span.before_ns > covered_ns:
            return False
        covered_ns = max(covered_ns, span.after_ns)
    return covered_ns == present_ns


def _open_journal(folder: Path) -> int:
    # The journal's own creation changes the folder's time, so it must be there before that time is read.
    try:
        os.close(os.open(folder / JOURNAL_NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644))
        return folder_mtime_ns(folder)
    except OSError:
        return UNEXPLAINED_NS  # the file's own creation makes the folder, or fails with the reason


def _append(folder: Path, names: Sequence[str], before_ns: int, *, level: int) -> None:
    if any(not name.isprintable() or " " in name for name in names):
        return  # such a name cannot stand in a line; the listing finds it
    line = " ".join((str(before_ns), str(folder_mtime_ns(folder)), *names))
    try:
        append_line(folder / JOURNAL_NAME, line.encode())
    except StorageError as error:
        # What was created stands; without its line the index lists the folder once.
        logger.log(level, "journal not written folder=%s reason=%s", folder, error)


def _parse(line: bytes) -> Span | None:
    try:
        before, after, *names = line.decode().split(" ")
        return Span(before_ns=int(before), after_ns=int(after), names=tuple(names))
    except ValueError:
        return None
