"""Why a program ended, told from its status and the last lines of its log."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from nexa_infra.launchers.crashes import RANK_MARK

HIDDEN = "(hidden)"
_TAIL_BYTES = 64 * 1024
_MOST_LINES = 8
_LONGEST_LINE = 300
_SHORTEST_SECRET = 4
"""A shorter value (`1`, `yes`) would blot out the log and hide nothing."""
_AGENT = "torch.distributed.elastic."
_TRACEBACK = "Traceback (most recent call last):"
_ERROR_LINE = re.compile(r"(?:[A-Za-z_][\w.]*\.)?[A-Za-z_]\w*(?:Error|Exception|Interrupt|Warning|Exit)\b.*")
_GPU_OUT_OF_MEMORY = re.compile(r"CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED")
_HOST_OUT_OF_MEMORY = re.compile(r"MemoryError\b|.*(?:DefaultCPUAllocator: can't allocate memory|bad_alloc)")
_DISK_TROUBLE = re.compile(r"No space left on device|Disk quota exceeded|Read-only file system", re.IGNORECASE)
_LITTLE_BYTES = 64 * 1024
_CGROUP = Path("/sys/fs/cgroup")


def read_tail(log: BinaryIO) -> list[str]:
    """Return the last lines of a log, undecodable bytes replaced; line ends, blank lines and what torchrun says of its
    own end left out.
    """
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - _TAIL_BYTES))
    lines = log.read(_TAIL_BYTES).decode(errors="replace").splitlines()
    return _leave_out_agent(
        [RANK_MARK.sub("", line.rstrip(), count=1)[:_LONGEST_LINE] for line in lines if line.strip()]
    )


def _leave_out_agent(lines: list[str]) -> list[str]:
    # torchrun ends with an exception of its own, which is the same whatever its processes died of.
    ends = [number for number, line in enumerate(lines) if line.startswith(_AGENT)]
    starts = [number for number in range(ends[-1]) if _TRACEBACK in lines[number]] if ends else []
    return lines[: starts[-1]] if starts else lines


def pick_evidence(lines: Sequence[str], secrets: Collection[str] = ()) -> tuple[str, ...]:
    """Return the lines that tell most: a traceback's last frame and its error, else the last lines; values of
    secrets hidden.
    """
    starts = [number for number, line in enumerate(lines) if _TRACEBACK in line]
    picked = list(lines[-_MOST_LINES:])
    if starts:
        block = lines[starts[-1] :]
        ends = [number for number, line in enumerate(block) if _ERROR_LINE.fullmatch(line)]
        if ends:
            picked = list(block[: ends[0] + 1][-_MOST_LINES:])
    return tuple(hide_secrets(line, secrets) for line in picked)


def find_error_line(lines: Sequence[str], secrets: Collection[str] = ()) -> str | None:
    """Return the last line that names an error, as `ValueError: no such file`; None when there is none."""
    for line in reversed(lines):
        if _ERROR_LINE.fullmatch(line):
            return hide_secrets(line, secrets)
    return None


def names_exception(text: str) -> bool:
    """Whether a message is an exception's, and not only a status or a signal."""
    return _ERROR_LINE.fullmatch(text) is not None


def find_out_of_memory(lines: Sequence[str]) -> str | None:
    """Return the line in which the program itself says that memory ran out; None when it does not.

    Only the last lines count: a program may survive one such error and end of another.
    """
    for line in reversed(lines[-_MOST_LINES * 2 :]):
        if _GPU_OUT_OF_MEMORY.search(line) or _HOST_OUT_OF_MEMORY.match(line):
            return line
    return None


def names_disk_trouble(line: str) -> bool:
    """Whether an error is the disk's and not the program's."""
    return _DISK_TROUBLE.search(line) is not None


def find_unwritable(folders: Iterable[Path]) -> tuple[Path, str] | None:
    """Return the first of these folders that takes no record or log now, and why; None when all do."""
    for folder in folders:
        try:
            room = os.statvfs(folder)
        except OSError:
            continue
        if room.f_flag & os.ST_RDONLY:
            return folder, "read-only file system"
        # Some file systems count no blocks (0 of 0 free) or no inodes.
        is_out_of_blocks = room.f_blocks > 0 and room.f_bavail * room.f_frsize < _LITTLE_BYTES
        if is_out_of_blocks or (room.f_files > 0 and room.f_favail == 0):
            return folder, "no space left on device"
    return None


def hide_secrets(text: str, secrets: Collection[str]) -> str:
    """Return the text with every value of a secret replaced."""
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, HIDDEN)
    return text


def read_oom_kills() -> int | None:
    """Return how often the kernel ended a process of our control group for want of memory; None where it is not told.

    The count is the group's: two jobs of one group cannot be told apart by it, so it is evidence only beside a
    SIGKILL.

    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html (memory.events, oom_kill).
    """
    group = Path()
    try:
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in ("", "memory"):
                group = Path(path.lstrip("/"))
        for folder in (_CGROUP / group, _CGROUP / "memory" / group, _CGROUP, _CGROUP / "memory"):
            for name in ("memory.events", "memory.oom_control"):
                if (folder / name).is_file():
                    return _parse_oom_kills((folder / name).read_text())
    except (OSError, ValueError):
        return None
    return None


def _parse_oom_kills(text: str) -> int | None:
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.isdecimal():
            return int(value)
    return None
