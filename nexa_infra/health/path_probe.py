"""Prints what the kernel says of one folder, as a line of JSON; a program of its own, because a dead mount holds it.

`path_probe FOLDER` asks for room, inodes and flags. `path_probe --clock FOLDER` writes and removes a file there, and
says how far this machine's clock is ahead of the one that stamped it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nexa_contracts.clock import Clock, SystemClock


def main(arguments: Sequence[str]) -> int:
    """Print the line and return 0; what the kernel refused is part of the line."""
    *options, folder = arguments
    try:
        answer = measure_offset(Path(folder), SystemClock()) if options else describe(Path(folder))
    except OSError as error:
        answer = {"refused": f"{folder}: {(error.strerror or str(error)).lower()}", "is_missing": _is_missing(error)}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


def describe(folder: Path) -> dict[str, Any]:
    """Return room in bytes, inodes, and whether it can be written, of the file system below a folder."""
    folder.stat()
    room = os.statvfs(folder)
    return {
        "size_bytes": room.f_blocks * room.f_frsize,
        "free_bytes": room.f_bavail * room.f_frsize,
        "used_bytes": (room.f_blocks - room.f_bfree) * room.f_frsize,
        "inodes": room.f_files,
        "free_inodes": room.f_favail,
        "is_read_only": bool(room.f_flag & os.ST_RDONLY),
        "may_write": os.access(folder, os.W_OK | os.X_OK),
    }


def measure_offset(folder: Path, clock: Clock) -> dict[str, Any]:
    """Return how far this clock is ahead of the file server's, in seconds, and how far that can be wrong."""
    path = folder / f".clock-{os.getpid()}-{os.urandom(4).hex()}.tmp"
    try:
        before = clock.now().timestamp()
        path.write_bytes(b".")
        stamped = path.stat().st_mtime
        after = clock.now().timestamp()
    finally:
        path.unlink(missing_ok=True)
    return {"offset_s": (before + after) / 2 - stamped, "error_s": max(0.0, after - before)}


def _is_missing(error: OSError) -> bool:
    return isinstance(error, FileNotFoundError | NotADirectoryError)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
