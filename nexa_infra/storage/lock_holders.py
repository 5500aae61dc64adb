"""Who keeps an SQLite file locked, as far as the kernel tells: for the message of whoever waited in vain."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nexa_contracts.env import holds_secret_text

_PARTS = ("", "-wal", "-shm", "-journal")
"""Of a database in either journal mode; with a write-ahead log the locks are in the shared memory."""
_LOCK = re.compile(r"^\d+: (?:POSIX|OFDLCK) +ADVISORY +(READ|WRITE) +(-?\d+) ([0-9a-f]+):([0-9a-f]+):(\d+) ")
_LONGEST = 80


@dataclass(frozen=True, slots=True)
class Lock:
    """One lock of the kernel's list; those that wait for another stand in other lines."""

    is_write: bool
    pid: int
    device: tuple[int, int]
    inode: int


def describe_holder(database: Path) -> str:
    """Return the process that keeps a database locked, as `process 12 (python3 copy.py)`, or `another process`.

    Where the kernel names files in another way than `stat` (btrfs, overlays), or the holder lives on another machine
    or outside this container, it is not known.
    """
    try:
        locks = parse_locks(Path("/proc/locks").read_text().splitlines())
    except OSError:
        return "another process"
    ours = [lock for lock in locks if lock.pid != os.getpid() and (lock.device, lock.inode) in _identities(database)]
    # Everyone who has the file open holds read locks; they stand in the way of a writer only without a log.
    has_log = database.with_name(f"{database.name}-shm").exists()
    chosen = [lock for lock in ours if lock.is_write] or ([] if has_log else ours)
    return _describe_process(chosen[0].pid) if chosen and chosen[0].pid > 0 else "another process"


def parse_locks(lines: Iterable[str]) -> list[Lock]:
    """Return the locks that are held on files; a line of another kind is passed over.

    Source: https://man7.org/linux/man-pages/man5/proc_locks.5.html.
    """
    found = (_LOCK.match(line) for line in lines)
    return [
        Lock(match[1] == "WRITE", int(match[2]), (int(match[3], 16), int(match[4], 16)), int(match[5]))
        for match in found
        if match is not None
    ]


def _identities(database: Path) -> set[tuple[tuple[int, int], int]]:
    found: set[tuple[tuple[int, int], int]] = set()
    for part in _PARTS:
        try:
            status = database.with_name(database.name + part).stat()
        except OSError:
            continue
        found.add(((os.major(status.st_dev), os.minor(status.st_dev)), status.st_ino))
    return found


def _describe_process(pid: int) -> str:
    try:
        program, *words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return f"process {pid}"
    words.insert(0, Path(program).name)
    shown = " ".join("(hidden)" if holds_secret_text(word) else word for word in words if word)
    text = "".join(character if character.isprintable() else "�" for character in shown)
    return f"process {pid} ({text[:_LONGEST]})" if text else f"process {pid}"
