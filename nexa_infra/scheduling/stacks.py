"""Where the processes of a job stand: their stacks, for who wants to know why it made no step any more.

py-spy shows them where it is installed and may look into other processes. Else a program that can is asked to tell
itself: SIGUSR2 is sent to those that handle it, which ours do by Python's faulthandler, into their own log.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nexa_contracts.clock import Clock
from nexa_contracts.errors import ExternalError, StorageError
from nexa_infra.process import CommandRunner
from nexa_infra.scheduling.evidence import hide_secrets
from nexa_infra.scheduling.process_tree import send_signal
from nexa_infra.storage.atomic import append_line

ASK = signal.SIGUSR2
"""What a program is asked with to write down its stacks."""
_MOST_PROCESSES = 32
_SPY_TIMEOUT_S = 10.0
_TELLING_S = 1.0
"""For the programs that write their own stacks."""
_MOST_FRAMES = 6
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class StackReader:
    """Looks into processes on this machine."""

    runner: CommandRunner
    environment: Mapping[str, str]
    clock: Clock

    def dump(self, pids: Sequence[int], log: Path, *, secrets: Collection[str] = ()) -> tuple[str, ...]:
        """Write the stacks of processes into a log; return the lines that tell most, of the first one that has any."""
        written = _size(log)
        spy = self._find_spy()
        for pid in pids[:_MOST_PROCESSES]:
            _append(log, f"nexa: {describe_process(pid)}")
            seen = None if spy is None else self._spy(spy, pid)
            if seen is not None:
                _append(log, hide_secrets(seen, secrets))
            elif handles(pid, ASK):
                send_signal(pid, ASK)
                self.clock.sleep(_TELLING_S)
        lines = pick_stack(_read_from(log, written))
        return tuple(hide_secrets(line, secrets) for line in lines or [describe_process(pid) for pid in pids[:3]])

    def _find_spy(self) -> str | None:
        beside = str(Path(sys.executable).parent)
        return shutil.which("py-spy", path=f"{beside}{os.pathsep}{self.environment.get('PATH', '')}")

    def _spy(self, spy: str, pid: int) -> str | None:
        try:
            done = self.runner.run([spy, "dump", "--pid", str(pid)], timeout_s=_SPY_TIMEOUT_S, env=self.environment)
        except ExternalError:
            return None
        return done.stdout if done.returncode == 0 and done.stdout.strip() else None


def pick_stack(lines: Sequence[str]) -> list[str]:
    """Return the innermost frames of the main thread in what py-spy or faulthandler printed, its heading first.

    faulthandler puts the main thread last, as `Current thread` or, when another one was running, as the last of all.
    """
    starts = [number for number, line in enumerate(lines) if line.startswith(("Thread ", "Current thread "))]
    if not starts:
        return []
    main = [number for number in starts if '"MainThread"' in lines[number] or lines[number].startswith("Current")]
    first = main[0] if main else starts[-1]
    frames: list[str] = []
    for line in lines[first + 1 :]:
        if not line.startswith(" ") or len(frames) == _MOST_FRAMES:
            break
        frames.append(line.strip())
    return [lines[first], *frames]


def describe_process(pid: int) -> str:
    """Return a line about a process: its program, its state, and what it waits for in the kernel."""
    folder = Path("/proc") / str(pid)
    command = (_read(folder / "cmdline") or b"").replace(b"\0", b" ").decode(errors="replace").strip()
    state = (_read(folder / "stat") or b"").rpartition(b")")[2].split()[:1]
    waits = (_read(folder / "wchan") or b"").decode(errors="replace").strip("0")
    told = [f"state {state[0].decode()}" if state else "gone", f"waits in {waits}" if waits else ""]
    return f"process {pid} ({command[:120]}): {', '.join(filter(None, told))}"


def handles(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal, so that it survives it.

    Source: https://man7.org/linux/man-pages/man5/proc_pid_status.5.html (SigCgt, a mask in hexadecimal).
    """
    for line in (_read(Path("/proc") / str(pid) / "status") or b"").splitlines():
        name, _, value = line.partition(b":")
        if name == b"SigCgt":
            return bool(int(value, 16) >> (number - 1) & 1)
    return False


def _append(log: Path, text: str) -> None:
    try:
        append_line(log, text.encode())
    except StorageError:
        return  # a full disk keeps the log short; the evidence is read from what is there


def _read_from(log: Path, offset: int) -> list[str]:
    try:
        with log.open("rb") as stream:
            stream.seek(offset)
            return stream.read(_MOST_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
