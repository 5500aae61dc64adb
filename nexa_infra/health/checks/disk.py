"""What the room below folders means."""

from __future__ import annotations

from nexa_contracts.health import CheckResult, Result
from nexa_contracts.units import format_size
from nexa_infra.health.folders import FolderAnswer, Room
from nexa_infra.health.sources import FOLDER_TIMEOUT_S

FULL = 0.95
NEARLY_FULL = 0.80


def judge_folder(answer: FolderAnswer, *, mounts: dict[str, str] | None) -> CheckResult:
    """Return whether a folder is there, answers, has room and inodes, and can be written where it must."""
    watched, room = answer.watched, answer.room
    is_not_mounted = watched.must_mount and mounts is not None and watched.path not in mounts
    if is_not_mounted:
        return _result(answer, "fail", None, "nothing is mounted there")
    if watched.must_mount and mounts is None:
        return _result(answer, "unknown", None, "/proc/self/mounts cannot be read")
    if room is None:
        return _result(answer, "fail" if answer.hangs or answer.is_missing else "unknown", None, answer.words)
    used, used_inodes = _share(room)
    words = []
    if watched.must_write and room.is_read_only:
        words.append("mounted read-only")
    elif watched.must_write and not room.may_write:
        words.append("not writable for this user")
    if max(used, used_inodes) >= FULL:
        words.append("full" if used >= FULL else "out of inodes")
    is_nearly = max(used, used_inodes) >= NEARLY_FULL
    result: Result = "fail" if words else "warn" if is_nearly else "ok"
    return _result(answer, result, _describe(room), ", ".join(words) or ("nearly full" if is_nearly else "statvfs"))


def _share(room: Room) -> tuple[float, float]:
    # What is kept for root counts as used up, as `df` has it.
    reachable = room.used_bytes + room.free_bytes
    used = room.used_bytes / reachable if reachable else 0.0
    return used, 1 - room.free_inodes / room.inodes if room.inodes else 0.0


def _describe(room: Room) -> str:
    used, used_inodes = _share(room)
    inodes = f", inodes {used_inodes:.0%}" if room.inodes else ""
    return f"{used:.0%} full{inodes}, {format_size(room.free_bytes)} free"


def _result(answer: FolderAnswer, result: Result, measured: str | None, words: str) -> CheckResult:
    needs = ["answers in " + f"{FOLDER_TIMEOUT_S:g} s", f"below {FULL:.0%} full, inodes too"]
    needs += ["writable"] if answer.watched.must_write else []
    needs += ["mounted"] if answer.watched.must_mount else []
    return CheckResult(
        name=f"disk {answer.watched.path}",
        result=result,
        measured=measured,
        threshold=", ".join(needs),
        evidence=words,
    )
