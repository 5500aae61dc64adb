"""One run within a job on Slurm: claimed, taken up where an earlier start of the job left it, tried until it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum
from functools import partial
from pathlib import Path

from nexa_contracts.clock import Clock
from nexa_contracts.errors import StorageError
from nexa_contracts.states import JobState
from nexa_infra.scheduling.attempting import Attempted, Surroundings, conclude, run_attempt, say
from nexa_infra.scheduling.ending import Leave
from nexa_infra.scheduling.entry import Entry
from nexa_infra.scheduling.evidence import find_unwritable
from nexa_infra.scheduling.fence import Start, claim_run, find_start, note_leaving, raise_fence, start_attempt
from nexa_infra.scheduling.logs import keep_log, scratch_log
from nexa_infra.scheduling.lost import describe_lost, find_spare
from nexa_infra.scheduling.records import Attempt, Failure, read_attempts, record_attempt, record_outcome
from nexa_infra.scheduling.settle import decide, is_refusal
from nexa_infra.scheduling.slurm.elsewhere import Elsewhere, find_refused, stay_put
from nexa_infra.scheduling.slurm.nodes import blame_dead
from nexa_infra.scheduling.slurm.own_job import OwnJob, SlurmListener, slurm_variables
from nexa_infra.scheduling.spare import Spare
from nexa_infra.scheduling.succession import NOTICE_S, has_ended
from nexa_infra.storage.fence import Fence

_LEAST_GRACE_S = 90.0
"""For saving: Slurm's own limits end it earlier where they are shorter, and a warning comes some minutes ahead."""
_MOST_ROOM_S = 300.0
_ROOM_AGAIN_S = 5.0
"""Between two tries to record an end on a disk that is full."""
_LONGEST_ROOM_S = 600.0
"""For a disk to take something again; another start of the job may come to another node, whose disk is not full."""
_LOOK_AGAIN_S = 1.0


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

    def __init__(
        self,
        listener: SlurmListener,
        *,
        job: OwnJob,
        environment: Mapping[str, str],
        clock: Clock,
        elsewhere: Elsewhere,
        is_shared: bool = False,
    ) -> None:
        """Make a runner; `is_shared` says that each of its rows may be cancelled without the others.

        `elsewhere` is told of nodes that were refused.
        """
        self.status = 0
        """Exit status of the program that ended last."""
        self._listener = listener
        self._is_shared = is_shared
        self._elsewhere = elsewhere
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
        if not self._has_room(entry):
            return RowEnd.LEFT
        owner = claim_run(entry.run_dir, self._job.owner, clock=self._clock)
        if owner != self._job.owner:
            print(f"nexa: {entry.run_id} belongs to job {owner.job_id} ({owner.name}); left to it", flush=True)  # noqa: T201
            return RowEnd.OTHERS
        self._listener.attend(entry.run_dir.cancel if self._is_shared else None)
        return self._go_on(replace(entry, grace_s=max(entry.grace_s, _LEAST_GRACE_S)))

    def leave(self, entries: Sequence[Entry]) -> int:
        """End this start of the job while these runs have no outcome: cancelled, or to go on in its next start."""
        refused = None
        if self._listener.leaving is not Leave.CANCELLED:
            if self._fence is not None:
                self._fence.check()  # a zombie must not put its successor back into the queue
            refused = self._listener.requeue()
            if refused is None:
                self._elsewhere.keep_off()
                return 0
        for entry in entries:
            self._end(entry, None if self._listener.leaving is Leave.CANCELLED else refused)
        return 1

    def _go_on(self, entry: Entry) -> RowEnd:
        lost = find_start(entry.run_dir, len(read_attempts(entry.run_dir)) + 1)
        if lost is not None:
            if not self._listener.is_meant():
                print(f"nexa: {entry.run_id} is left to another start of this job", flush=True)  # noqa: T201
                return RowEnd.OTHERS
            self._settle_lost(entry, lost)
        attempts = read_attempts(entry.run_dir)
        delay_s, is_first = 0.0, True
        while True:
            if attempts and not conclude(entry, attempts).again:
                return RowEnd.SUCCEEDED if attempts[-1].state is JobState.SUCCEEDED else RowEnd.FAILED
            has_time = self._has_time(entry, delay_s, is_first=is_first) and self._has_room(entry)
            if lost is not None and is_first:
                has_time = has_time and self._outwait(entry, lost)
            if self._listener.look_for_wish():
                self._end(entry, None)
                return RowEnd.FAILED
            if not has_time:
                return RowEnd.LEFT
            attempted = self._try(entry, len(attempts) + 1)
            if attempted is None or attempted.decision is None:
                return RowEnd.OTHERS  # a later start of this job has it
            attempts.append(attempted.attempt)
            self.status = attempted.attempt.exit_code or 0
            if attempted.decision.is_elsewhere:
                return self._move(entry, attempted.attempt)
            delay_s, is_first = attempted.decision.delay_s, False

    def _move(self, entry: Entry, attempt: Attempt) -> RowEnd:
        obstacle = self._elsewhere.move_from(find_refused(entry.run_dir, attempt))
        if obstacle is None:
            return RowEnd.LEFT
        record_outcome(entry, stay_put(attempt, obstacle), attempts=attempt.number)
        return RowEnd.FAILED

    def _try(self, entry: Entry, number: int) -> Attempted | None:
        job = self._job
        fence = start_attempt(entry.run_dir, number, restarts=job.restarts, clock=self._clock, host=job.host)
        if fence is None:
            return None
        self._fence = fence
        spare = find_spare(entry, number)
        around = Surroundings(
            environment=self._environment,
            clock=self._clock,
            spare=spare,
            longest_s=self._longest_s(entry, number),
            note_leaving=partial(self._note, entry, fence),
            fence=fence,
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

    def _settle_lost(self, entry: Entry, lost: Start) -> None:
        """Record the newest attempt, which began and has no record: its machine died, or this job was killed in it."""
        spare = find_spare(entry, lost.number)
        secrets = tuple(self._environment[name] for name in entry.secrets if self._environment.get(name))
        attempt = spare.find() or describe_lost(entry, lost, secrets=secrets, clock=self._clock)
        if record_attempt(entry.run_dir, attempt):
            _keep_log(entry, lost.number, secrets)
        spare.discard()

    def _outwait(self, entry: Entry, lost: Start) -> bool:
        """Wait until whoever began that attempt is gone, or must have seen the fence; return whether to go on here."""
        raise_fence(entry.run_dir, lost.number + 1)
        until_s = self._clock.monotonic_s() + (_LOOK_AGAIN_S if has_ended(lost.process) else NOTICE_S)
        while self._goes_on() and self._clock.monotonic_s() < until_s:
            self._listener.listen(until_s - self._clock.monotonic_s())
        if self._listener.leaving is not None:
            self._listener.explain(self._listener.leaving)
        return self._goes_on()

    def _has_time(self, entry: Entry, delay_s: float, *, is_first: bool) -> bool:
        """Wait before the next attempt and return whether there is time for one in this allocation."""
        if not is_first:
            left_s = self._listener.left_s()
            room_s = min(_MOST_ROOM_S, entry.walltime_s / 10)
            if left_s is not None and _usable_s(entry, left_s) - delay_s < room_s:
                self._listener.leaving = self._listener.leaving or Leave.TIMED_OUT
        until_s = self._clock.monotonic_s() + delay_s
        self._listener.listen(0.0)
        while self._goes_on() and self._clock.monotonic_s() < until_s:
            self._listener.listen(until_s - self._clock.monotonic_s())
        if self._listener.leaving is not None:
            self._listener.explain(self._listener.leaving)
        return self._listener.leaving is None

    def _goes_on(self) -> bool:
        return self._listener.leaving is None and not self._listener.is_row_cancelled

    def _has_room(self, entry: Entry) -> bool:
        """Wait until its disks take a record and a log; return whether this allocation goes on.

        A full disk is no fault of the run's and uses up no retry, unless it lasts.
        """
        until_s = self._clock.monotonic_s() + _LONGEST_ROOM_S
        said: tuple[Path, str] | None = None
        while self._goes_on() and self._clock.monotonic_s() < until_s:
            found = find_unwritable((entry.run_dir.path, entry.scratch))
            if found is None:
                return True
            if said is None:
                print(f"nexa: {entry.run_id} waits for its disk: {found[0]}: {found[1]}", flush=True)  # noqa: T201
            said = found
            self._listener.listen(_LOOK_AGAIN_S)
        if self._listener.leaving is not None:
            self._listener.explain(self._listener.leaving)
        return self._listener.leaving is None

    def _longest_s(self, entry: Entry, number: int) -> float | None:
        # The first attempt of a job has the whole of it; Slurm is not asked for every task that only runs through.
        if number == 1 and self.status == 0:
            return None if self._is_shared else entry.walltime_s - self._listener.warning.reserve_s(entry.walltime_s)
        left_s = self._listener.left_s()
        return None if left_s is None else max(1.0, _usable_s(entry, left_s))

    def _end(self, entry: Entry, refused: str | None) -> None:
        """Record the outcome of a run that no attempt of this job follows: cancelled, or why Slurm lets none."""
        if entry.outcome.exists() or claim_run(entry.run_dir, self._job.owner, clock=self._clock) != self._job.owner:
            return
        attempts = read_attempts(entry.run_dir)
        now = self._clock.now()
        if refused is None:
            state, failure = JobState.CANCELLED, Failure("cancelled", "cancelled on request")
        else:
            message = f"it was to go on in another start of its job, which Slurm refused: {refused}"
            state, failure = JobState.FAILED, Failure("preempted", message)
        nothing = Attempt(
            run_id=entry.run_id, number=0, state=state, started_at=now, ended_at=now, seconds=0.0, failure=failure
        )
        last = replace(attempts[-1], state=state, failure=failure) if attempts else nothing
        if attempts and attempts[-1].state in (JobState.TIMED_OUT, JobState.NODE_FAILED) and refused is not None:
            last = replace(last, state=attempts[-1].state)
        if attempts and is_refusal(attempts[-1]) and refused is not None:
            last = stay_put(attempts[-1], refused)
        record_outcome(entry, last, attempts=len(attempts))

    def _note(self, entry: Entry, fence: Fence, why: Leave) -> None:
        try:
            note_leaving(fence, why)
        except StorageError as error:
            say(error)  # it only says why, should this process be killed before it can
        blame_dead(entry, self._listener.failed_nodes, clock=self._clock)


def _usable_s(entry: Entry, left_s: float) -> float:
    """Of what is left of a job, what an attempt may have: it must leave and be recorded before the end."""
    return left_s - max(10.0, min(entry.grace_s, left_s / 5))


def _keep_log(entry: Entry, number: int, secrets: Sequence[str]) -> None:
    log = scratch_log(entry.scratch, entry.run_id, number)
    try:
        with log.open("rb") as stream:
            keep_log(stream, entry.run_dir.log(number), hidden=secrets)
    except (OSError, StorageError) as error:
        say(error)  # on a scratch of its own node; a zombie may still write into it, so it is not removed
