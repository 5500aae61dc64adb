"""What runs around the program in each process that torchrun starts: `python -m nexa_infra.launchers.rank COMMAND...`.

torchrun knows success and failure only, starts its processes again after any failure, and tells those that are left to
leave with the same SIGTERM that a job is told to leave with. This tells the two apart by who sent the signal, and tells
torchrun of a success where starting again would be wrong: when the job was told to leave, when the training diverged,
when the request was refused. What the program said with its status is kept in the result of the attempt, where the job
entry finds it. A crash that has come before ends torchrun.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexa_contracts import env
from nexa_contracts.clock import SystemClock
from nexa_contracts.errors import AlreadyExists, StorageError
from nexa_contracts.exit_codes import NEVER_RETRIED, WorkExit
from nexa_infra.launchers.crashes import CrashSite
from nexa_infra.storage.atomic import append_line, create_file
from nexa_infra.storage.run_dir import RunDir

HEARD = frozenset(
    {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD}
)
"""They come to the whole process group, so the program has them too; while they are blocked here they wait."""
_SETTLED = frozenset({WorkExit.DONE, WorkExit.SAVED_AND_LEFT, *NEVER_RETRIED})
"""Statuses after which an attempt is over, whatever its other processes did."""
_NEVER_STARTED = 127
END_AGENT = signal.SIGALRM
"""Ends torchrun, which hears it, and its processes, of which it leaves no dump."""


@dataclass(frozen=True, slots=True)
class _End:
    status: int
    """Negative for the number of a signal."""
    is_asked: bool
    """Told to leave, by someone who wants the whole job to."""
    is_cleaned_up: bool
    """Told to leave by torchrun, because another process had died."""


def main(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the program and return the status that torchrun is to see."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    for number in HEARD:
        signal.signal(number, signal.SIG_DFL)  # those that are ignored when it starts were never meant for it
    notes = _Notes.find(environment)
    settled = notes.find_status()
    if settled in _SETTLED:
        _say(f"this attempt has ended with status {settled}; not started again")
        return 0
    if signal.SIGTERM in signal.sigpending():
        notes.record_status(WorkExit.SAVED_AND_LEFT)  # there is nothing to save yet
        return 0
    notes.record_start(environment)
    agent, site = os.getppid(), notes.find_crash_site(environment)
    try:
        pid = os.posix_spawnp(argv[0], list(argv), environment, setsigmask=(), setsigdef=HEARD)
    except OSError as error:
        _say(f"{argv[0]}: cannot be run: {error.strerror}")
        return _NEVER_STARTED
    end = _await(pid)
    if end.is_asked or end.status == WorkExit.DIVERGED:
        # All processes come to this together, and the first may still be writing when another has left.
        notes.record_status(end.status)
        return 0
    if end.status == WorkExit.SAVED_AND_LEFT and end.is_cleaned_up:
        notes.forget_status()
    elif end.status in _SETTLED - {WorkExit.DONE}:
        notes.record_status(end.status)
    elif not end.is_cleaned_up and end.status != WorkExit.DONE and notes.record_crash(site):
        _say("the same exception came at the same step before; not started again")
        os.kill(agent, END_AGENT)
    if end.status < 0:
        _die_of(-end.status)
    return end.status


def _await(pid: int) -> _End:
    is_asked = is_cleaned_up = False
    agent = os.getppid()
    while True:
        heard = signal.sigwaitinfo(HEARD)
        if heard.si_signo == signal.SIGCHLD:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return _End(os.waitstatus_to_exitcode(status), is_asked, is_cleaned_up)
        elif heard.si_signo == signal.SIGTERM:
            is_asked = is_asked or heard.si_pid != agent
            is_cleaned_up = is_cleaned_up or heard.si_pid == agent


class _Notes:
    """What the attempt's folder says of its processes; written by the first of them."""

    def __init__(self, run_dir: RunDir | None, attempt: int, *, is_first: bool) -> None:
        self._run_dir = run_dir
        self._attempt = attempt
        self._is_first = is_first

    @classmethod
    def find(cls, environment: Mapping[str, str]) -> _Notes:
        """Return the notes of the job around this process; outside of a job they hold nothing."""
        folder, attempt = environment.get(env.RUN_DIR), environment.get(env.ATTEMPT, "")
        run_dir = RunDir(Path(folder)) if folder and attempt.isdecimal() else None
        return cls(run_dir, int(attempt) if run_dir else 0, is_first=environment.get("RANK") == "0")

    def find_status(self) -> int | None:
        """Return the status that the first process ended with before; None: this is its first start, or it crashed."""
        if self._run_dir is None:
            return None
        try:
            found: Any = json.loads(self._run_dir.result(self._attempt).read_bytes())
            return int(found["exit_code"])
        except (OSError, ValueError, LookupError, TypeError):
            return None  # what is wrong with the file is for the job entry to say

    def find_crash_site(self, environment: Mapping[str, str]) -> CrashSite | None:
        """Return what a crash of this process is told from; None when nothing would be started again after it."""
        return None if self._run_dir is None else CrashSite.find(self._run_dir, self._attempt, environment)

    def record_crash(self, site: CrashSite | None) -> bool:
        """Note the crash of this start; return whether the same one came before. Any process may be the one."""
        try:
            return site is not None and site.note()
        except StorageError as error:
            _say(error.message)
            return False

    def record_start(self, environment: Mapping[str, str]) -> None:
        restart = int(environment.get("TORCHELASTIC_RESTART_COUNT") or 0)
        line = {"time": SystemClock().now().isoformat(), "host": os.uname().nodename, "restart": restart}
        self._write(lambda folder: append_line(folder.ranks(self._attempt), json.dumps(line).encode()))

    def record_status(self, status: int) -> None:
        """Keep the status of a program that wrote no result of its own; of a signal as a shell tells it."""
        exit_code = status if status >= 0 else 128 - status
        data = json.dumps({"schema_version": 1, "exit_code": exit_code}).encode() + b"\n"
        self._write(lambda folder: create_file(folder.result(self._attempt), data))

    def forget_status(self) -> None:
        """Remove the result of a program that took the clean-up after another process for a request to leave."""
        self._write(lambda folder: folder.result(self._attempt).unlink(missing_ok=True))

    def _write(self, write: Callable[[RunDir], None]) -> None:
        if self._run_dir is None or not self._is_first:
            return
        try:
            write(self._run_dir)
        except AlreadyExists:
            return  # our training writes its own
        except StorageError as error:
            _say(error.message)
        except OSError as error:
            _say(f"{self._run_dir.path}: {error.strerror}")


def _die_of(number: int) -> None:
    # torchrun names the signal in its report; a dump of this process would explain nothing.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)


def _say(text: str) -> None:
    sys.stderr.write(f"nexa: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
