"""A mount namespace of a driver's own: what it mounts nobody else sees, and it goes with the driver's last process.

chmod does not stop root, so a file system itself has to be full or read-only.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from nexa_infra.process import SystemRunner

ROOT = Path(__file__).parents[2]


def drive(driver: str, folder: Path, case: str, *, timeout_s: float = 300.0) -> dict[str, Any]:
    """Return what `tests/faults/<driver>.py FOLDER CASE` says, run where it may mount what it likes."""
    folder.mkdir(parents=True, exist_ok=True)
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    command = [*namespace, sys.executable, "-m", f"tests.faults.{driver}", str(folder), case]
    done = SystemRunner().run(command, timeout_s=timeout_s, cwd=ROOT, env=dict(os.environ))
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def mount(*words: str) -> None:
    """Mount, or mount again with other options."""
    SystemRunner().run(["mount", *words], timeout_s=30).require_success()


def mount_memory(folder: Path, size: str) -> None:
    """Put a small file system over a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))


def make_read_only(folder: Path) -> None:
    """Let nothing change in a folder through its path any more."""
    mount("--bind", str(folder), str(folder))
    mount("-o", "remount,bind,ro", str(folder))


def make_writable(folder: Path) -> None:
    """Undo it."""
    mount("-o", "remount,bind,rw", str(folder))


def fill(folder: Path) -> Path:
    """Return the file that takes all the room of a folder's file system."""
    path = folder / "fill"
    with path.open("wb", buffering=0) as stream:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    stream.write(b"x" * size)
            except OSError:
                continue
    return path
