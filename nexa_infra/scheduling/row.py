"""One run within a job on Slurm: claimed, taken up where an earlier start of the job left it, tried until it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum
from functools import partial

from nexa_contracts.clock import Clock
from nexa_contracts.errors import StorageError
from nexa_contracts.states import JobState
from nexa_infra.scheduling.attempting import Attempted, Surroundings, conclude, run_attempt, say
from nexa_infra.scheduling.ending import Leave
from nexa_infra.scheduling.entry import Entry
from nexa_infra.scheduling.fence import claim_run, find_start, note_leaving, start_attempt
from nexa_infra.scheduling.logs import keep_log, scratch_log
from nexa_infra.scheduling.lost import describe_lost
from nexa_infra.scheduling.records import Attempt, Failure, read_attempts, record_attempt, record_outcome
from nexa_infra.scheduling.settle import decide
from nexa_infra.scheduling.slurm.own_job import OwnJob, SlurmListener, slurm_variables
from nexa_infra.scheduling.spare import Spare
from nexa_infra.storage.fence import Fence
from nexa_infra.storage.run_dir import RunDir

_LEAST_GRACE_S = 90.0
"""For saving: Slurm's own limits end it earlier where they are shorter, and a warning comes some minutes ahead."""
_MOST_ROOM_S = 300.0
_ROOM_AGAIN_S = 5.0
"""Between two tries to record an end on a disk that is full."""


class RowEnd(Enum):
    """What became of a run in this start of its job."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    OTHERS = "others"
    """It had its outcome, or belongs to another job."""
    LEFT = "left"
    """This allocation ends before the run does."""


class RowRunner:
    """Runs the rows of one job."""

    def __init__(self, listener: SlurmListener, *, job: OwnJob, environment: Mapping[str, str], clock: Clock) -> None:
        self.status = 0
        """Exit status of the program that ended last."""
        self._listener = listener
        self._job = job
        self._environment = environment
        self._clock = clock
        self._fence: Fence | None = None

    def run(self, entry: Entry) -> RowEnd:
        """Run a run until it has its outcome, or until this allocation ends.

        Raises:
            StorageError: the run's folder cannot be read or written.
        """
        if entry.outcome.exists():
            return RowEnd.OTHERS
        owner = claim_run(entry.run_dir, self._job.owner, clock=self._clock)
        if owner != self._job.owner:
            print(f"nexa: {entry.run_id} belongs to job {owner.job_id} ({owner.name}); left to it", flush=True)  # noqa: T201
            return RowEnd.OTHERS
        entry = replace(entry, grace_s=max(entry.grace_s, _LEAST_GRACE_S))
        self._settle_lost(entry)
        attempts = read_attempts(entry.run_dir)
        delay_s = 0.0
        while True:
            if attempts and not conclude(entry, attempts).again:
                return RowEnd.SUCCEEDED if attempts[-1].state is JobState.SUCCEEDED else RowEnd.FAILED
            if not self._has_time(entry, delay_s, is_first=delay_s == 0.0):
                return RowEnd.LEFT
            attempted = self._try(entry, len(attempts) + 1)
            if attempted is None or attempted.decision is None:
                return RowEnd.OTHERS  # a later start of this job has it
            attempts.append(attempted.attempt)
            self.status = attempted.attempt.exit_code or 0
            delay_s = attempted.decision.delay_s

    def leave(self, entries: Sequence[Entry]) -> int:
        """End this start of the job while these runs have no outcome: cancelled, or to go on in its next start."""
        if self._listener.leaving is not Leave.CANCELLED:
            if self._fence is not None:
                self._fence.check()  # a zombie must not put its successor back into the queue
            refused = self._listener.requeue()
            if refused is None:
                return 0
        else:
            refused = "it was cancelled"
        for entry in entries:
            self._end(entry, refused)
        return 1

    def _try(self, entry: Entry, number: int) -> Attempted | None:
        fence = start_attempt(entry.run_dir, number, restarts=self._job.restarts, clock=self._clock)
        if fence is None:
            return None
        self._fence = fence
        spare = _find_spare(entry, number)
        around = Surroundings(
            environment=self._environment,
            clock=self._clock,
            spare=spare,
            longest_s=self._longest_s(entry, number),
            note_leaving=partial(_note, fence),
        )
        told = replace(entry, environment={**slurm_variables(self._environment), **entry.environment, **fence.tell()})
        try:
            return run_attempt(told, number, self._listener, around=around)
        except StorageError as error:
            say(error)
            return self._record_later(entry, spare, error)

    def _record_later(self, entry: Entry, spare: Spare, error: StorageError) -> Attempted | None:
        # What was measured waits on scratch; this job holds its place until the shared tier takes it, or it is ended.
        while (kept := spare.find()) is not None:
            self._listener.listen(_ROOM_AGAIN_S)
            try:
                if not record_attempt(entry.run_dir, kept):
                    spare.discard()
                    return Attempted(kept, None)
                spare.discard()
                return Attempted(kept, decide(read_attempts(entry.run_dir), entry))
            except StorageError as again:
                error = again
        raise error

    def _settle_lost(self, entry: Entry) -> None:
        """Record the newest attempt that began and has no record: its machine died, or this job was killed in it."""
        number = len(read_attempts(entry.run_dir)) + 1
        start = find_start(entry.run_dir, number)
        if start is None:
            return
        spare = _find_spare(entry, number)
        secrets = tuple(self._environment[name] for name in entry.secrets if self._environment.get(name))
        attempt = spare.find() or describe_lost(entry, start, secrets=secrets, clock=self._clock)
        if record_attempt(entry.run_dir, attempt):
            _keep_log(entry, number, secrets)
        spare.discard()

    def _has_time(self, entry: Entry, delay_s: float, *, is_first: bool) -> bool:
        """Wait before the next attempt and return whether there is time for one in this allocation."""
        if not is_first:
            left_s = self._listener.left_s()
            room_s = min(_MOST_ROOM_S, entry.walltime_s / 10)
            if left_s is not None and left_s - delay_s < room_s:
                self._listener.leaving = self._listener.leaving or Leave.TIMED_OUT
        until_s = self._clock.monotonic_s() + delay_s
        self._listener.listen(0.0)
        while self._listener.leaving is None and self._clock.monotonic_s() < until_s:
            self._listener.listen(until_s - self._clock.monotonic_s())
        if self._listener.leaving is not None:
            self._listener.explain(self._listener.leaving)
        return self._listener.leaving is None

    def _longest_s(self, entry: Entry, number: int) -> float | None:
        # The first attempt of a job has the whole of it; Slurm is not asked for every task that only runs through.
        if number == 1 and self.status == 0:
            return None
        left_s = self._listener.left_s()
        return None if left_s is None else max(1.0, left_s - max(10.0, min(entry.grace_s, left_s / 5)))

    def _end(self, entry: Entry, refused: str) -> None:
        if entry.outcome.exists() or claim_run(entry.run_dir, self._job.owner, clock=self._clock) != self._job.owner:
            return
        attempts = read_attempts(entry.run_dir)
        now = self._clock.now()
        is_cancelled = self._listener.leaving is Leave.CANCELLED
        if is_cancelled:
            state, failure = JobState.CANCELLED, Failure("cancelled", "cancelled on request")
        else:
            message = f"it was to go on in another start of its job, which Slurm refused: {refused}"
            state, failure = JobState.FAILED, Failure("preempted", message)
        nothing = Attempt(
            run_id=entry.run_id, number=0, state=state, started_at=now, ended_at=now, seconds=0.0, failure=failure
        )
        last = replace(attempts[-1], state=state, failure=failure) if attempts else nothing
        if attempts and attempts[-1].state is JobState.TIMED_OUT and not is_cancelled:
            last = replace(last, state=JobState.TIMED_OUT)
        record_outcome(entry, last, attempts=len(attempts))


def _note(fence: Fence, why: Leave) -> None:
    try:
        note_leaving(fence, why)
    except StorageError as error:
        say(error)  # it only says why, should this process be killed before it can


def _find_spare(entry: Entry, number: int) -> Spare:
    log = scratch_log(entry.scratch, entry.run_id, number)
    return Spare(RunDir(log.parent).path / f"{log.stem}.end.json")


def _keep_log(entry: Entry, number: int, secrets: Sequence[str]) -> None:
    log = scratch_log(entry.scratch, entry.run_id, number)
    try:
        with log.open("rb") as stream:
            keep_log(stream, entry.run_dir.log(number), hidden=secrets)
    except (OSError, StorageError) as error:
        say(error)  # on a scratch of its own node; a zombie may still write into it, so it is not removed
