"""One attempt: the program started, watched, told to leave when it must, and its end put into words."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from nexa_contracts import env
from nexa_contracts.clock import Clock
from nexa_contracts.errors import CommandMissing, StorageError
from nexa_contracts.exit_codes import WorkExit
from nexa_contracts.states import JobState
from nexa_infra.health.naming import own_name
from nexa_infra.process import SystemRunner
from nexa_infra.scheduling.adaptive.pruning import TrialWatch
from nexa_infra.scheduling.ending import Ending, Leave, judge_ending
from nexa_infra.scheduling.entry import Entry, build_environment
from nexa_infra.scheduling.evidence import find_unwritable, read_oom_kills, read_tail
from nexa_infra.scheduling.listening import Listener
from nexa_infra.scheduling.logs import scratch_log
from nexa_infra.scheduling.process_tree import become_subreaper, end_tree
from nexa_infra.scheduling.records import Attempt, Failure, find_result
from nexa_infra.scheduling.stacks import StackReader
from nexa_infra.scheduling.stalls import StallWatch, StepReader
from nexa_infra.scheduling.torchrun import count_restarts, find_repeated_crash
from nexa_infra.scheduling.watching import LEFTOVER_GRACE_S, Limits, Watch, Watched
from nexa_infra.storage.atomic import make_folder, storage_errors
from nexa_infra.storage.fence import Fence

_NEVER_STARTED = 127
"""As a shell reports a program that is not there."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One attempt of one run on this machine."""

    entry: Entry
    attempt: int
    environment: Mapping[str, str]
    """Of the job entry."""
    clock: Clock
    longest_s: float | None = None
    """What is left of the job around it; None: the walltime of the run is all that counts."""
    note_leaving: Callable[[Leave], None] | None = None
    """Called as soon as the program is told to leave: the machine may be gone before the attempt is recorded."""
    fence: Fence | None = None
    """Where a later attempt may begin while this one goes on."""
    trial: TrialWatch | None = None
    """The trial of a study that the run is."""

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

    def run(self, listener: Listener, log: BinaryIO) -> Attempt:
        """Run the program to its end, and everything it started with it; return how it went."""
        started = self._start()
        token = self.environment.get(env.JOB_TOKEN) or os.urandom(16).hex()
        told = build_environment(self.entry, attempt=self.attempt, ours={**self.environment, env.JOB_TOKEN: token})
        steps = StepReader(self.entry.run_dir, self.attempt)
        kills = read_oom_kills()
        become_subreaper()
        try:
            child = SystemRunner().start(
                self.entry.command, output=self.log, cwd=self.entry.cwd, env=told, end_with_us=True
            )
        except CommandMissing as error:
            failure = Failure("bad_request", error.message)
            return replace(self._record(started, JobState.FAILED, failure), exit_code=_NEVER_STARTED)
        with self.trial or nullcontext():
            watched = self._watch(token, steps).run(child, listener)
        end_tree(token, clock=self.clock, grace_s=LEFTOVER_GRACE_S, root=os.getpid())
        oom_kills = _count_since(kills)
        return self._judge(started, watched, read_tail(log), steps, oom_kills)

    def _watch(self, token: str, steps: StepReader) -> Watch:
        walltime_s = self.entry.walltime_s
        return Watch(
            token=token,
            limits=Limits(
                walltime_s=walltime_s if self.longest_s is None else min(walltime_s, self.longest_s),
                grace_s=self.entry.grace_s,
                stall_s=self.entry.stall_s,
            ),
            stall=StallWatch(steps, stall_s=self.entry.stall_s, clock=self.clock),
            stacks=StackReader(SystemRunner(), self.environment, self.clock),
            log=self.log,
            secrets=self.secrets,
            note_leaving=self.note_leaving,
            clock=self.clock,
            pruning=self.trial,
            fence=self.fence,
        )

    def _judge(
        self, started: _Start, watched: Watched, lines: list[str], steps: StepReader, oom_kills: int | None
    ) -> Attempt:
        result, unreadable = self._read_result()
        returncode = watched.returncode
        said: dict[str, Any] | None = (result or {}).get("failure")
        told_status = (result or {}).get("exit_code")
        if returncode >= 0 and told_status:
            # torchrun answers 1 whatever its workers ended with, and 0 when starting them again would be wrong.
            returncode = told_status
        told = None if said is None else Failure(said["kind"], said["message"], tuple(said["evidence"]))
        ending = Ending(
            returncode=returncode,
            leave=watched.leave,
            walltime_s=self.entry.walltime_s,
            lines=lines,
            oom_kills=oom_kills,
            said=find_repeated_crash(self.entry.run_dir, self.attempt, lines, secrets=self.secrets) or told,
            unreadable=unreadable,
            disk=self._describe_disk(),
            stall=watched.stall,
            has_finished=told_status == WorkExit.DONE,
            secrets=self.secrets,
        )
        state, why = judge_ending(ending)
        return replace(
            self._record(started, state, self._mention_lost_log(why)),
            exit_code=returncode if returncode >= 0 else None,
            signal=-returncode if returncode < 0 else None,
            resumed_from=(result or {}).get("resumed_from"),
            step=steps.read().step,
            pruned_at_step=self._find_pruned_step(ending),
            rank_restarts=count_restarts(self.entry.run_dir, self.attempt),
        )

    def _find_pruned_step(self, ending: Ending) -> int | None:
        if self.trial is None or ending.leave is not Leave.PRUNED or ending.is_finished:
            return None
        return self.trial.pruned_at_step

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
            hostname=own_name(self.environment, os.uname().nodename),
            failure=failure,
        )


@dataclass(frozen=True, slots=True)
class _Start:
    at: datetime
    monotonic_s: float


def _count_since(before: int | None) -> int | None:
    now = read_oom_kills()
    return None if before is None or now is None else now - before
