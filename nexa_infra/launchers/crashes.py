"""Crashes of the processes that torchrun starts again: the same exception at the same step twice would come each time.

Each node notes the first crash of each start, in a file that is created exclusively. A note holds no text of the
exception, which may hold anything, but its name and a digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexa_contracts.errors import AlreadyExists
from nexa_infra.storage.atomic import create_file
from nexa_infra.storage.metrics import read_new_records, read_whole
from nexa_infra.storage.run_dir import RunDir

ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
"""Where a process says what it died of: `{"message": ...}`, as torch's `record` writes it; ours adds the step."""
_TAIL_BYTES = 64 * 1024
_STDERR = 2
_TRACEBACK = "Traceback (most recent call last):"
RANK_MARK = re.compile(r"\[rank[0-9]+\]: ?")
"""What torch puts before each line of an exception, once the processes know each other."""
_ERROR = re.compile(r"([A-Za-z_][\w.]*)(?:: .*)?")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
_MAY_PASS = re.compile(
    r"Dist\w*Error|NCCL|connection|timed? ?out|socket|ChildFailed|SignalException"
    r"|StorageError|No space left|quota exceeded|Read-only file system|Input/output error"
    r"|uncorrectable|Xid|fallen off the bus|GPU is lost",
    re.IGNORECASE,
)
"""An exception that another process's death brings about, or a disk, or a GPU that broke: next time it may be gone."""


@dataclass(frozen=True, slots=True)
class CrashSite:
    """One start of one process, and where what it says begins."""

    run_dir: RunDir
    attempt: int
    node: int
    restart: int
    error_file: Path | None
    log_bytes: int | None
    """None: what is said goes to no file that can be read here."""
    metrics_bytes: int
    beat: bytes

    @classmethod
    def find(cls, run_dir: RunDir, attempt: int, environment: Mapping[str, str]) -> CrashSite | None:
        """Return it, to be called before the program starts; None where torchrun starts nothing again.

        Source: https://docs.pytorch.org/docs/stable/elastic/run.html (environment variables).
        """
        if _whole(environment, "TORCHELASTIC_MAX_RESTARTS") == 0:
            return None
        error_file = environment.get(ERROR_FILE)
        return cls(
            run_dir=run_dir,
            attempt=attempt,
            node=_whole(environment, "GROUP_RANK"),
            restart=_whole(environment, "TORCHELASTIC_RESTART_COUNT"),
            error_file=Path(error_file) if error_file else None,
            log_bytes=_size(_STDERR),
            metrics_bytes=_size(run_dir.metrics) or 0,
            beat=_read(run_dir.heartbeat),
        )

    def note(self) -> bool:
        """Note the crash of the program; return whether it is one that was noted before, in another start.

        Raises:
            StorageError: the run's folder cannot be written.
        """
        told = self._read_told()
        text = _find_text(told) or self._find_logged()
        step = read_whole(told.get("step"))
        step = self._find_step() if step is None else step
        name, digest = _describe(text)
        same = None if digest is None else self._find_same(digest, step)
        note = {"exception": name, "digest": digest, "step": step, "same_as": same}
        try:
            path = self.run_dir.crash(self.attempt, node=self.node, restart=self.restart)
            create_file(path, (json.dumps(note) + "\n").encode())
        except AlreadyExists:
            return False  # another process of this node was first, and this one may have died of it
        return same is not None

    def _read_told(self) -> dict[str, Any]:
        return _parse(_read(self.error_file)) if self.error_file is not None else {}

    def _find_logged(self) -> str | None:
        size = _size(_STDERR)
        if self.log_bytes is None or size is None:
            return None
        begin = max(self.log_bytes, size - _TAIL_BYTES)
        try:
            with Path(f"/proc/self/fd/{_STDERR}").open("rb") as log:
                log.seek(begin)
                text = log.read(_TAIL_BYTES)
        except OSError:
            return None
        return find_exception(text.decode(errors="replace").splitlines())

    def _find_step(self) -> int | None:
        beat = _read(self.run_dir.heartbeat)
        said = [read_whole(_parse(beat).get("step"))] if beat != self.beat else []
        try:
            records, _ = read_new_records(self.run_dir.metrics, offset=self.metrics_bytes)
        except OSError:
            records = []
        said += [read_whole(record.get("step")) for record in records[-1:]]
        return max((step for step in said if step is not None), default=None)

    def _find_same(self, digest: str, step: int | None) -> int | None:
        """Return the attempt in which it came before."""
        own = self.run_dir.crash(self.attempt, node=self.node, restart=self.restart)
        for path in list_notes(self.run_dir):
            attempt, node, _ = _identify(path)
            # Other nodes of this attempt may have noted the crash of this very start.
            is_other_start = attempt < self.attempt or (attempt == self.attempt and node == self.node and path != own)
            found = _parse(_read(path)) if is_other_start else {}
            if (found.get("digest"), found.get("step")) == (digest, step):
                return attempt
        return None


def list_notes(run_dir: RunDir) -> list[Path]:
    """Return the notes of a run's crashes, in order."""
    return sorted(run_dir.attempts.glob("*.crash-*-*.json"), key=_identify)


def find_repeated(run_dir: RunDir, attempt: int) -> dict[str, Any] | None:
    """Return the note of the crash that ended an attempt because it had come before; None when none did."""
    notes = [_parse(_read(path)) for path in list_notes(run_dir) if _identify(path)[0] == attempt]
    return next((note for note in notes if note.get("same_as") is not None), None)


def find_exception(lines: Iterable[str]) -> str | None:
    """Return the first exception of a log's lines, as `ValueError: bad row`; None when there is none."""
    is_told = False
    for line in (RANK_MARK.sub("", line, count=1).rstrip() for line in lines):
        if _TRACEBACK in line:
            is_told = True
        elif is_told and _ERROR.fullmatch(line):
            return line
    return None


def _find_text(told: Mapping[str, Any]) -> str | None:
    message = told.get("message")
    found = message.get("message") if isinstance(message, dict) else message
    return found if isinstance(found, str) else None


def _describe(text: str | None) -> tuple[str | None, str | None]:
    if text is None or _MAY_PASS.search(text):
        return None, None
    found = _ERROR.match(text)
    told = _ADDRESS.sub("0x", text)
    return None if found is None else found[1], hashlib.sha256(told.encode(errors="replace")).hexdigest()


def _identify(path: Path) -> tuple[int, int, int]:
    numbers = re.fullmatch(r"([0-9]+)\.crash-([0-9]+)-([0-9]+)\.json", path.name)
    return (0, 0, 0) if numbers is None else (int(numbers[1]), int(numbers[2]), int(numbers[3]))


def _whole(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    return int(text) if text.isdecimal() else 0


def _size(file: Path | int) -> int | None:
    try:
        found = os.stat(file)  # noqa: PTH116 - a descriptor too
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _parse(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
