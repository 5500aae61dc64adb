"""One attempt: the program started, watched, told to leave when it must, and its end put into words."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from nexa_contracts import env
from nexa_contracts.clock import Clock
from nexa_contracts.errors import CommandMissing, StorageError
from nexa_contracts.states import JobState
from nexa_infra.process import Child, SystemRunner
from nexa_infra.scheduling.ending import Ending, Leave, judge_ending
from nexa_infra.scheduling.entry import Entry, build_environment
from nexa_infra.scheduling.evidence import find_unwritable, read_oom_kills, read_tail
from nexa_infra.scheduling.logs import scratch_log
from nexa_infra.scheduling.process_tree import become_subreaper, end_tree, reap_adopted
from nexa_infra.scheduling.records import Attempt, Failure, find_result
from nexa_infra.scheduling.signals import SignalQueue
from nexa_infra.storage.atomic import make_folder, storage_errors

_LEFTOVER_GRACE_S = 5.0
"""For what the program left running when it ended."""
_NEVER_STARTED = 127
"""As a shell reports a program that is not there."""
WATCHED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_FORWARDED = (signal.SIGUSR1, signal.SIGUSR2)
_ASKING = (signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Execution:
    """One attempt of one run on this machine.

    SIGINT means that a person cancelled the run, SIGTERM that something else wants it to leave; SIGUSR1 and SIGUSR2
    are passed on to the program and mean what it likes.
    """

    entry: Entry
    attempt: int
    environment: Mapping[str, str]
    """Of the job entry."""
    clock: Clock

    @property
    def log(self) -> Path:
        """Where the program's output goes."""
        return scratch_log(self.entry.scratch, self.entry.run_id, self.attempt)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values that no record may hold."""
        return tuple(self.environment[name] for name in self.entry.secrets if self.environment.get(name))

    def open_log(self) -> BinaryIO:
        """Create the log and return it open for reading; it can be read to the end even if scratch vanishes.

        Raises:
            StorageError: scratch is full, read-only, broken or not there.
        """
        make_folder(self.log.parent)
        with storage_errors(self.log, "opening the log"):
            # Only its owner may read it: a program may print what it was given in confidence.
            os.close(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            return self.log.open("rb")

    def fail(self, failure: Failure) -> Attempt:
        """Return the record of an attempt that came to nothing before its program started."""
        return self._record(self._start(), JobState.FAILED, failure)

    def run(self, signals: SignalQueue, log: BinaryIO) -> Attempt:
        """Run the program to its end, and everything it started with it; return how it went."""
        started = self._start()
        token = self.environment.get(env.JOB_TOKEN) or os.urandom(16).hex()
        told = build_environment(self.entry, attempt=self.attempt, ours={**self.environment, env.JOB_TOKEN: token})
        kills = read_oom_kills()
        become_subreaper()
        try:
            child = SystemRunner().start(
                self.entry.command, output=self.log, cwd=self.entry.cwd, env=told, end_with_us=True
            )
        except CommandMissing as error:
            failure = Failure("bad_request", error.message)
            return replace(self._record(started, JobState.FAILED, failure), exit_code=_NEVER_STARTED)
        returncode, leave = self._watch(child, token, signals)
        end_tree(token, clock=self.clock, grace_s=_LEFTOVER_GRACE_S, root=os.getpid())
        now_kills = read_oom_kills()
        result, unreadable = self._read_result()
        said: dict[str, Any] | None = (result or {}).get("failure")
        told_status = (result or {}).get("exit_code")
        if returncode > 0 and told_status:
            returncode = told_status  # torchrun answers 1 whatever status its workers ended with
        ending = Ending(
            returncode=returncode,
            leave=leave,
            walltime_s=self.entry.walltime_s,
            lines=read_tail(log),
            oom_kills=None if kills is None or now_kills is None else now_kills - kills,
            said=None if said is None else Failure(said["kind"], said["message"], tuple(said["evidence"])),
            unreadable=unreadable,
            disk=self._describe_disk(),
            secrets=self.secrets,
        )
        state, why = judge_ending(ending)
        return replace(
            self._record(started, state, self._mention_lost_log(why)),
            exit_code=returncode if returncode >= 0 else None,
            signal=-returncode if returncode < 0 else None,
            resumed_from=(result or {}).get("resumed_from"),
        )

    def _watch(self, child: Child, token: str, signals: SignalQueue) -> tuple[int, Leave | None]:
        leave: Leave | None = None
        deadline_s = self.clock.monotonic_s() + self.entry.walltime_s
        while (returncode := child.poll()) is None:
            arrived = signals.wait(deadline_s - self.clock.monotonic_s())
            if signal.SIGCHLD in arrived:
                reap_adopted(but=child.pid)
            for number in _FORWARDED:
                if number in arrived:
                    child.send_signal(number)
            wanted = _read_wish(arrived, is_late=self.clock.monotonic_s() >= deadline_s)
            if wanted is None:
                continue
            if leave is None:
                child.send_signal(signal.SIGTERM)
                leave, deadline_s = wanted, self.clock.monotonic_s() + self.entry.grace_s
            elif wanted is Leave.CANCELLED:
                leave = wanted
            elif wanted is Leave.TIMED_OUT:
                # The grace is over.
                end_tree(token, clock=self.clock, grace_s=0.0, root=os.getpid())
                deadline_s = self.clock.monotonic_s() + self.entry.grace_s
        return returncode, leave

    def _read_result(self) -> tuple[dict[str, Any] | None, str | None]:
        try:
            return find_result(self.entry.run_dir, self.attempt), None
        except StorageError as error:
            return None, error.message

    def _describe_disk(self) -> str | None:
        places = {
            self.entry.scratch: f"scratch {self.entry.scratch}",
            self.entry.run_dir.path: f"the run's folder {self.entry.run_dir.path}",
            self.entry.durable: f"durable {self.entry.durable}",
        }
        found = find_unwritable(places)
        return None if found is None else f"{places[found[0]]}: {found[1]}"

    def _mention_lost_log(self, failure: Failure | None) -> Failure | None:
        if failure is None or self.log.exists():
            return failure
        note = f"{self.log} is gone: scratch vanished or was cleaned while the job ran"
        return replace(failure, evidence=(*failure.evidence, note))

    def _start(self) -> _Start:
        return _Start(at=self.clock.now(), monotonic_s=self.clock.monotonic_s())

    def _record(self, started: _Start, state: JobState, failure: Failure | None) -> Attempt:
        return Attempt(
            run_id=self.entry.run_id,
            number=self.attempt,
            state=state,
            started_at=started.at,
            ended_at=self.clock.now(),
            seconds=round(self.clock.monotonic_s() - started.monotonic_s, 6),
            hostname=os.uname().nodename,
            failure=failure,
        )


@dataclass(frozen=True, slots=True)
class _Start:
    at: datetime
    monotonic_s: float


def _read_wish(arrived: frozenset[int], *, is_late: bool) -> Leave | None:
    if signal.SIGINT in arrived:
        return Leave.CANCELLED
    if any(number in arrived for number in _ASKING):
        return Leave.ASKED
    return Leave.TIMED_OUT if is_late else None
