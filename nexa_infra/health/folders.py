"""What the kernel says of folders: room, inodes, flags, and the clock of whoever serves them; None when it hangs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexa_contracts.errors import CommandTimedOut, ExternalError
from nexa_contracts.health import WatchedFolder
from nexa_infra.health.sources import FOLDER_TIMEOUT_S, Sources
from nexa_infra.process import tail

_NETWORK = re.compile(
    r"nfs4?|cifs|smb3|lustre|gpfs|beegfs|ceph|fuse\.(?!lxcfs|portal|gvfsd).*|9p|glusterfs|wekafs|panfs|orangefs"
)
_MOST_AT_ONCE = 8
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Room:
    """The file system below a folder. Sizes in bytes."""

    size_bytes: int
    free_bytes: int
    used_bytes: int
    inodes: int
    """0: it has no fixed number of them."""
    free_inodes: int
    is_read_only: bool
    may_write: bool


@dataclass(frozen=True, slots=True)
class FolderAnswer:
    """What was said of a folder; without room, `words` says why and the rest what that means."""

    watched: WatchedFolder
    room: Room | None
    words: str = ""
    is_missing: bool = False
    hangs: bool = False


@dataclass(frozen=True, slots=True)
class Offset:
    """How far this node's clock is ahead of a file server's, in seconds; None with the reason when not known."""

    offset_s: float | None
    error_s: float = 0.0
    words: str = ""


def list_mounts(sources: Sources) -> dict[str, str] | None:
    """Return the kind of file system by the folder it is mounted on; None when the kernel does not show it.

    Source: https://man7.org/linux/man-pages/man5/proc_pid_mounts.5.html (blanks are written as octal numbers).
    """
    text = sources.read("self/mounts")
    if text is None:
        return None
    rows = [line.split(" ") for line in text.splitlines()]
    return {_unquote(row[1]): row[2] for row in rows if len(row) >= 3}


def choose_folders(named: Sequence[WatchedFolder], mounts: dict[str, str] | None) -> tuple[WatchedFolder, ...]:
    """Return the named folders, `/`, and every mounted network file system, each once with all that is asked."""
    network = sorted(path for path, kind in (mounts or {}).items() if _NETWORK.fullmatch(kind))
    chosen: dict[str, WatchedFolder] = {}
    for folder in [*named, WatchedFolder(path="/"), *(WatchedFolder(path=path) for path in network)]:
        before = chosen.get(folder.path, folder)
        chosen[folder.path] = WatchedFolder(
            path=folder.path,
            must_write=folder.must_write or before.must_write,
            must_mount=folder.must_mount or before.must_mount,
        )
    return tuple(chosen.values())


def read_folders(sources: Sources, folders: Sequence[WatchedFolder]) -> tuple[FolderAnswer, ...]:
    """Return what the kernel says of each folder, several asked at a time."""
    with ThreadPoolExecutor(_MOST_AT_ONCE) as pool:
        return tuple(pool.map(lambda watched: _read_folder(sources, watched), folders))


def read_offset(sources: Sources, folder: Path) -> Offset:
    """Return the offset of this node's clock against whoever stamps files in the folder."""
    said = _ask(sources, "--clock", str(folder))
    if isinstance(said, ExternalError):
        return Offset(None, words=said.message)
    if "offset_s" not in said:
        return Offset(None, words=str(said.get("refused", "no answer")))
    return Offset(float(said["offset_s"]), float(said["error_s"]))


def _read_folder(sources: Sources, watched: WatchedFolder) -> FolderAnswer:
    said = _ask(sources, watched.path)
    if isinstance(said, CommandTimedOut):
        return FolderAnswer(watched, None, f"no answer in {FOLDER_TIMEOUT_S:g} s", hangs=True)
    if isinstance(said, ExternalError):
        return FolderAnswer(watched, None, said.message)
    if "refused" in said:
        return FolderAnswer(watched, None, str(said["refused"]), is_missing=bool(said.get("is_missing")))
    return FolderAnswer(watched, Room(**said))


def _ask(sources: Sources, *arguments: str) -> dict[str, Any] | ExternalError:
    try:
        reply = sources.run_own("path_probe", *arguments, timeout_s=FOLDER_TIMEOUT_S).require_success()
    except ExternalError as error:
        return error
    try:
        found: dict[str, Any] = json.loads(reply.stdout)
    except ValueError:
        return ExternalError(f"{arguments[-1]}: found {tail(reply.stdout)!r}; expected a line of JSON")
    return found


def _unquote(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
