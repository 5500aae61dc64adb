"""Settling a job whose entry is gone: what it recorded is read, what it could not record is written in its stead."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from nexa_contracts.clock import Clock
from nexa_contracts.errors import ConfigError, NexaError, NotFound, StorageError
from nexa_contracts.states import FINAL_STATES, JobState
from nexa_infra.health.naming import own_name
from nexa_infra.scheduling.entry import Entry, read_entry
from nexa_infra.scheduling.evidence import pick_evidence, read_tail
from nexa_infra.scheduling.logs import keep_log, scratch_log
from nexa_infra.scheduling.process_tree import end_tree
from nexa_infra.scheduling.queued_job import Job
from nexa_infra.scheduling.records import Attempt, Failure, read_attempts, read_regular, record_attempt, record_outcome
from nexa_infra.scheduling.settle import decide
from nexa_infra.scheduling.spare import Spare
from nexa_infra.storage.run_dir import RunDir

logger = logging.getLogger(__name__)

UNDIGESTED = (
    ConfigError,
    NotFound,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
"""What odd values in a job, its spec or its records raise; such a job must not end who looks after all of them."""


@dataclass(frozen=True, slots=True)
class Settler:
    """Turns jobs without a living job entry into what the queue shall say of them."""

    boot_id: str
    environment: Mapping[str, str]
    """Of the supervisor: values of secrets to hide in what a job could not hide itself."""
    clock: Clock
    ends: Path | None = None
    """Folder where job entries leave the records that their run's folder cannot take; None: they were told none."""

    def find_spare(self, job: Job) -> Spare | None:
        """Return where a job's entry leaves its record when the run's folder cannot take it."""
        return None if self.ends is None or job.token is None else Spare(self.ends / f"{job.token}.json")

    def settle(self, job: Job, *, entry_status: int | None = None) -> dict[str, Any]:
        """Return the fields of a started job that change now that its entry is gone, with that status if it is known.

        Raises:
            StorageError: the run's folder or its manifests cannot be read or written; try again later.
        """
        run_dir = RunDir(Path(job.run_dir))
        attempts = read_attempts(run_dir)
        ended = _read_outcome_state(job)
        if ended is None and len(attempts) < job.attempt:
            self._record_in_its_stead(job, run_dir, entry_status)
            attempts = read_attempts(run_dir)
        spare = self.find_spare(job)
        if spare is not None:
            spare.discard()
        if ended is None:
            decision = decide(attempts, job, cancelled=job.cancel_requested)
            if decision.again:
                not_before_s = self.clock.monotonic_s() + decision.delay_s
                return {**_LET_GO, "state": decision.state, "boot_id": self.boot_id, "not_before_s": not_before_s}
            last = decision.conclude(attempts[-1])
            if decision.state is JobState.CANCELLED and last.failure is None:
                last = replace(last, failure=Failure("cancelled", "cancelled on request"))
            self._record_outcome(job, last, len(attempts))
            ended = decision.state
        logger.info("run ended run_id=%s state=%s attempts=%d", job.run_id, ended, len(attempts))
        return {**_LET_GO, "state": ended}

    def end_unstarted(
        self, job: Job, state: JobState, failure: Failure, *, entry: Entry | None = None
    ) -> dict[str, Any]:
        """Return the fields of a waiting job that will not be started any more; its run gets its outcome.

        Raises:
            StorageError: the run's folder or its manifests cannot be read or written; try again later.
        """
        attempts = read_attempts(RunDir(Path(job.run_dir)))
        now = self.clock.now()
        last = Attempt(
            run_id=job.run_id,
            number=len(attempts),
            state=state,
            started_at=now,
            ended_at=now,
            seconds=0.0,
            failure=failure,
        )
        self._record_outcome(job, last, len(attempts), entry=entry)
        logger.info("run ended before it started run_id=%s state=%s", job.run_id, state)
        return {**_LET_GO, "state": state, "reason": failure.message}

    def let_go(self, job: Job, error: Exception) -> dict[str, Any]:
        """Return the fields of a job that nothing can be done with, because of an error of `UNDIGESTED`: it has failed.

        Its processes are ended, and its run gets its outcome where that is possible.
        """
        reason = f"it cannot be handled: {type(error).__name__}: {error}"
        logger.warning("job is let go run_id=%s dir=%r reason=%s", job.run_id, job.run_dir, reason, exc_info=error)
        if job.token is not None and not end_tree(job.token, clock=self.clock, grace_s=0.0):
            logger.warning("processes of a job cannot be ended run_id=%s token=%s", job.run_id, job.token)
        now = self.clock.now()
        last = Attempt(
            run_id=job.run_id,
            number=job.attempt,
            state=JobState.FAILED,
            started_at=now,
            ended_at=now,
            seconds=0.0,
            failure=Failure("lost", reason),
        )
        try:
            self._record_outcome(job, last, job.attempt)
        except (StorageError, OSError, *UNDIGESTED) as further:
            logger.warning("run ends without an outcome run_id=%s reason=%s", job.run_id, further)
        return {**_LET_GO, "state": JobState.FAILED, "reason": reason}

    def _record_in_its_stead(self, job: Job, run_dir: RunDir, entry_status: int | None) -> None:
        log = scratch_log(Path(job.scratch), job.run_id, job.attempt)
        spare = self.find_spare(job)
        kept = spare.find() if spare is not None else None
        if kept is None:
            self._settle_silent_death(job, run_dir, log, entry_status=entry_status)
        elif record_attempt(run_dir, kept):
            logger.info("kept record is recorded run_id=%s attempt=%d", job.run_id, job.attempt)
            self._keep_log(job, log, run_dir.log(job.attempt))

    def _settle_silent_death(self, job: Job, run_dir: RunDir, log: Path, *, entry_status: int | None) -> None:
        if job.token is not None and not end_tree(job.token, clock=self.clock, grace_s=0.0):
            logger.warning("processes of a job cannot be ended run_id=%s token=%s", job.run_id, job.token)
        attempt = self._describe_silent_death(job, log, entry_status=entry_status)
        if not record_attempt(run_dir, attempt):
            return  # its entry was only slow to end
        logger.warning("run lost its job entry run_id=%s attempt=%d", job.run_id, job.attempt)
        self._keep_log(job, log, run_dir.log(job.attempt))

    def _describe_silent_death(self, job: Job, log: Path, *, entry_status: int | None) -> Attempt:
        now = self.clock.now()
        seconds, ended_at = 0.0, now
        if job.boot_id == self.boot_id and job.started_s is not None:
            state, kind, message = JobState.FAILED, "lost", _describe_loss(job, entry_status)
            now_s = self.clock.monotonic_s()
            ended_s = now_s if job.ended_s is None else job.ended_s
            ended_at = now - timedelta(seconds=now_s - ended_s)
            seconds = max(0.0, ended_s - job.started_s)
            started_at = ended_at - timedelta(seconds=seconds)
        else:
            # The last sign of life bounds what the clock that died with the machine measured.
            state, kind, message = JobState.NODE_FAILED, "lost", "the machine went down while it ran"
            started_at = datetime.fromisoformat(job.started_at) if job.started_at is not None else now
            ended_at = max(started_at, _read_last_write(log) or started_at)
            seconds = (ended_at - started_at).total_seconds()
        if job.cancel_requested:
            state, kind, message = JobState.CANCELLED, "cancelled", "cancelled on request; it was killed"
        return Attempt(
            run_id=job.run_id,
            number=job.attempt,
            state=state,
            started_at=started_at,
            ended_at=ended_at,
            seconds=round(seconds, 6),
            hostname=own_name(self.environment, os.uname().nodename),
            failure=Failure(kind, message, self._read_evidence(job, log)),
        )

    def _read_evidence(self, job: Job, log: Path) -> tuple[str, ...]:
        try:
            with log.open("rb") as stream:
                return pick_evidence(read_tail(stream), self._hidden(job.secrets))
        except OSError as error:
            return (f"{log}: no log: {error.strerror}",)

    def _keep_log(self, job: Job, log: Path, target: Path) -> None:
        try:
            with log.open("rb") as stream:
                keep_log(stream, target, hidden=self._hidden(job.secrets))
            log.unlink()
        except FileNotFoundError:
            return  # it died before it opened one
        except (OSError, StorageError) as error:
            logger.warning("log stays where it is run_id=%s path=%s reason=%s", job.run_id, log, error)

    def _hidden(self, names: Collection[str]) -> tuple[str, ...]:
        return tuple(self.environment[name] for name in names if self.environment.get(name))

    def _record_outcome(self, job: Job, last: Attempt, attempts: int, *, entry: Entry | None = None) -> None:
        if Path(job.outcome).exists():
            return
        try:
            entry = entry or read_entry(Path(job.spec), job.idx)
        except NexaError as error:
            # Without its spec nobody can say what the run was; its folder was moved away, and the queue lets it go.
            logger.warning("run ends without an outcome run_id=%s reason=%s", job.run_id, error)
            return
        record_outcome(entry, last, attempts=attempts)


_ENDS = {state.value: state for state in FINAL_STATES}
_LET_GO: dict[str, Any] = {
    "boot_id": None,
    "not_before_s": None,
    "started_s": None,
    "ended_s": None,
    "pid": None,
    "start_ticks": None,
    "gpu_ids": None,
    "reason": None,
}


def _read_outcome_state(job: Job) -> JobState | None:
    path = Path(job.outcome)
    try:
        return _ENDS[json.loads(read_regular(path))["state"]]
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        # It stays as it is for a person to see, and the queue lets the job go.
        logger.warning("outcome cannot be read path=%s reason=%s", path, error)
        return JobState.FAILED
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error


def _describe_loss(job: Job, entry_status: int | None) -> str:
    if entry_status is None or entry_status < 0:
        lost = "its job entry was killed from outside and left no record"
    else:
        lost = f"its job entry ended with status {entry_status} and left no record; supervisor.log says why"
    return lost if job.reason is None else f"{lost}; {job.reason}"


def _read_last_write(log: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(log.stat().st_mtime, UTC)
    except OSError:
        return None
