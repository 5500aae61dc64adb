"""Processes by what cannot lie about them: pid with start time, session, ancestry, and the token in their environment.

Linux only, through /proc: a job's processes may leave its group and its session, but not its environment, and while
the job entry lives (a child subreaper) not its descent either.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from nexa_contracts import env
from nexa_contracts.clock import Clock

_PROC = Path("/proc")
_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.02
_EMPTY_READS = 2
"""How often in a row a still table must show nothing of a job before it counts as gone."""
_RESTLESS_READS = 25
"""How often in a row it may show nothing while processes are born all the time: there may never be a still one."""
_KILL_ROUNDS = 250
"""About five seconds: a process still there after so many SIGKILLs hangs in the kernel."""


@dataclass(frozen=True, slots=True)
class ProcessMark:
    """A process that cannot be mistaken for a later one with the same pid, nor moved by the wall clock."""

    pid: int
    start_ticks: int
    """Clock ticks after boot at which it started."""


@dataclass(frozen=True, slots=True)
class Process:
    """One line of the table of processes."""

    mark: ProcessMark
    parent: int
    group: int
    session: int
    is_zombie: bool


def read_boot_id() -> str:
    """Return what names this boot of this machine.

    Source: https://man7.org/linux/man-pages/man5/proc_sys_kernel.5.html (random/boot_id).
    """
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def find_process(pid: int) -> Process | None:
    """Return the process with a pid; None when there is none.

    Source: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html (fields 3 to 6 and 22; the name in field 2 may
    hold spaces and brackets, so counting starts after the last one).
    """
    try:
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Process(
        mark=ProcessMark(pid=pid, start_ticks=int(fields[19])),
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        is_zombie=fields[0] in (b"Z", b"X"),
    )


def is_alive(mark: ProcessMark) -> bool:
    """Whether this very process still runs; one that ended and waits to be reaped does not."""
    process = find_process(mark.pid)
    return process is not None and process.mark == mark and not process.is_zombie


def read_environment(pid: int) -> dict[str, str]:
    """Return the environment a process was started with; empty when it ended or belongs to another user."""
    try:
        raw = (_PROC / str(pid) / "environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return {}
    pairs = (os.fsdecode(pair).partition("=") for pair in raw.split(b"\0") if b"=" in pair)
    return {name: text for name, _, text in pairs}


def list_carriers(token: str) -> list[int]:
    """Return the pids of our processes whose environment carries the job token, ourselves left out."""
    ours = os.getpid()
    return [pid for pid in _list_pids() if pid != ours and read_environment(pid).get(env.JOB_TOKEN) == token]


def list_members(token: str, *, root: int | None = None) -> list[int]:
    """Return the pids of a job: the token's carriers, their sessions, and the descendants of `root`; zombies not.

    Neither we nor `root` are among them.
    """
    carriers = list_carriers(token)
    # Read after the carriers, so that it holds them and what they forked meanwhile.
    table = {pid: process for pid in _list_pids() if (process := find_process(pid)) is not None}
    members = {pid for pid in carriers if pid in table}
    sessions = {table[pid].session for pid in members if pid != root} - {os.getsid(0)}
    members |= {pid for pid, process in table.items() if process.session in sessions}
    if root is not None:
        members |= {pid for pid in table if _descends_from(pid, root, table)}
    members -= {os.getpid(), root if root is not None else os.getpid()}
    return sorted(pid for pid in members if not table[pid].is_zombie)


def end_tree(token: str, *, clock: Clock, grace_s: float, root: int | None = None) -> bool:
    """End every process of a job: each is asked once, and killed after `grace_s`; return whether none is left.

    Processes that are born meanwhile are found too. A read of the table is no snapshot: a process between two forks is
    missed by one, so only a read counts during which none was born; one amid its exec shows no environment, so the
    next read comes a moment later.
    """
    asked: set[int] = set()
    deadline_s = clock.monotonic_s() + grace_s
    empty = restless = rounds = 0
    while empty < _EMPTY_READS and restless < _RESTLESS_READS and rounds < _KILL_ROUNDS:
        born = _read_last_pid()
        members = list_members(token, root=root)
        is_still = _read_last_pid() == born
        empty, restless = (0, 0) if members else (empty + is_still, restless + 1)
        is_asked = clock.monotonic_s() < deadline_s
        rounds += not is_asked
        for pid in members:
            if not is_asked:
                send_signal(pid, signal.SIGKILL)
            elif pid not in asked:
                send_signal(pid, signal.SIGTERM)
        asked.update(members)
        if empty < _EMPTY_READS:
            clock.sleep(_POLL_S)
    return not members


def list_children(pid: int) -> list[int]:
    """Return the pids of the processes that one started and that still run."""
    table = [process for each in _list_pids() if (process := find_process(each)) is not None]
    return sorted(process.mark.pid for process in table if process.parent == pid and not process.is_zombie)


def ignores_signal(pid: int, number: signal.Signals) -> bool:
    """Whether a process ignores a signal; True when it is not there any more.

    Source: https://man7.org/linux/man-pages/man5/proc_pid_status.5.html (SigIgn).
    """
    try:
        lines = (_PROC / str(pid) / "status").read_bytes().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return True
    mask = next((line.split()[1] for line in lines if line.startswith(b"SigIgn:")), b"0")
    return bool(int(mask, 16) >> (number - 1) & 1)


def signal_group(pid: int, number: signal.Signals) -> bool:
    """Send a signal to the group that a process leads; return False when it is not there any more."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return False
    return True


def send_signal(pid: int, number: signal.Signals) -> bool:
    """Send a signal to one process; return False when it is not there any more."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def become_subreaper() -> None:
    """Make orphans of our descendants our children, so that a double fork does not leave the tree.

    Source: https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_adopted(*, but: int) -> None:
    """Take the status of our ended children that no one waits for, but not that of the child `but`."""
    for process in [find_process(pid) for pid in _list_pids()]:
        if process is None or process.parent != os.getpid() or process.mark.pid == but or not process.is_zombie:
            continue
        try:
            os.waitpid(process.mark.pid, os.WNOHANG)
        except ChildProcessError:
            continue  # reaped between the look and the call


def _read_last_pid() -> bytes:
    """Return the pid that was given out last.

    Source: https://man7.org/linux/man-pages/man5/proc_loadavg.5.html (fifth field).
    """
    return (_PROC / "loadavg").read_bytes().split()[-1]


def _list_pids() -> list[int]:
    return [int(name) for name in os.listdir(_PROC) if name.isdecimal()]  # noqa: PTH208 - ten times a Path each


def _descends_from(pid: int, root: int, table: dict[int, Process]) -> bool:
    # A pid may be given out anew between two reads of the table, so a circle is possible and must end.
    seen: set[int] = set()
    while pid in table and pid not in seen:
        seen.add(pid)
        pid = table[pid].parent
        if pid == root:
            return True
    return False
