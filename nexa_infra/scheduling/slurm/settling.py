"""Settling a job that Slurm says has ended and that left no outcome: what it could not record is written in its stead.

A job records its own end; this is for those that could not: their node failed, they were killed at their time limit or
for their memory, they were cancelled before they began, or Slurm has lost them. An outcome is created exclusively, so a
job that was only slow to say how it ended is never contradicted twice.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from nexa_contracts.clock import Clock
from nexa_contracts.errors import NexaError, StorageError
from nexa_contracts.states import JobState
from nexa_infra.scheduling.blaming import record_fault
from nexa_infra.scheduling.entry import Entry, read_entries
from nexa_infra.scheduling.evidence import pick_evidence, read_tail
from nexa_infra.scheduling.fence import find_start
from nexa_infra.scheduling.logs import keep_log, scratch_log
from nexa_infra.scheduling.lost import describe_lost, find_spare
from nexa_infra.scheduling.records import Attempt, Failure, read_attempts, record_attempt, record_outcome
from nexa_infra.scheduling.settle import decide
from nexa_infra.scheduling.slurm.chunks import FOLDER, Chunk
from nexa_infra.scheduling.slurm.client import SlurmJob
from nexa_infra.scheduling.slurm.states import describe

logger = logging.getLogger(__name__)

_KINDS = {
    JobState.NODE_FAILED: "lost",
    JobState.TIMED_OUT: "timed_out",
    JobState.OUT_OF_MEMORY: "out_of_memory",
    JobState.CANCELLED: "cancelled",
    JobState.FAILED: "lost",
    JobState.PREEMPTED: "preempted",
}
_AGAIN = "it starts again"
_FOR_GOOD = (JobState.CANCELLED, JobState.OUT_OF_MEMORY)


@dataclass(frozen=True, slots=True)
class Ended:
    """How Slurm says that the job of a run ended."""

    run_id: str
    chunk: Chunk
    state: JobState
    message: str
    nodes: str = ""

    @property
    def outcome(self) -> JobState:
        """The state of the run: nothing starts a job again that Slurm preempted and let go."""
        return JobState.FAILED if self.state is JobState.PREEMPTED else self.state


def judge(run_id: str, chunk: Chunk, job: SlurmJob) -> Ended | None:
    """Return how a job ended that Slurm still knows; None while it may go on."""
    state, reason = describe(job)
    if not state.is_final and state is not JobState.PREEMPTED:
        return None
    why = "" if not reason else f" ({reason})"
    where = f" on {job.nodes}" if job.nodes else ""
    said = f"Slurm says that job {chunk.job_of(run_id)} ended as {job.state}{where}{why}"
    if state is JobState.SUCCEEDED:
        state, said = JobState.FAILED, f"{said}, but it left no outcome"
    return Ended(run_id, chunk, state, said, job.nodes)


def describe_loss(run_id: str, chunk: Chunk, *, is_cancelled: bool) -> Ended:
    """Return how a run ended whose job Slurm does not know any more."""
    if is_cancelled:
        return Ended(run_id, chunk, JobState.CANCELLED, "cancelled on request")
    said = f"Slurm does not know job {chunk.job_of(run_id)} any more, and it left no outcome"
    return Ended(run_id, chunk, JobState.NODE_FAILED, said)


@dataclass(frozen=True, slots=True)
class SlurmSettler:
    """Writes the records of runs whose jobs have ended in silence."""

    environment: Mapping[str, str]
    """Of whoever settles: values of secrets to hide in what a job could not hide itself."""
    clock: Clock
    start_again: Callable[[Ended], bool]
    """Puts a job back into the queue whose run may be tried again; whether it will start."""

    def settle(self, ended: Sequence[Ended]) -> dict[str, str]:
        """Give every one of these runs its outcome, or let its job start again; return for those that got none why.

        Raises:
            ExternalError: Slurm does not answer.
        """
        troubles: dict[str, str] = {}
        again: set[str | None] = set()
        ordered = sorted(ended, key=lambda each: (str(each.chunk.spec), each.chunk.runs[each.run_id]))
        for spec, group in groupby(ordered, key=lambda each: each.chunk.spec):
            members = list(group)
            try:
                entries = read_entries(spec, [each.chunk.runs[each.run_id] for each in members])
            except NexaError as error:
                troubles.update({each.run_id: error.message for each in members})
                continue
            for each in members:
                entry, job_id = entries[each.chunk.runs[each.run_id]], each.chunk.job_of(each.run_id)
                try:
                    # Rows of one task come in their order: those that had not begun have lost nothing.
                    if (job_id in again and not entry.run_dir.start(1).exists()) or self._settle(entry, each):
                        again.add(job_id)
                        troubles[each.run_id] = _AGAIN
                except StorageError as error:
                    troubles[each.run_id] = error.message
        for message in sorted(set(troubles.values()) - {_AGAIN}):
            logger.warning("runs cannot be settled now: %s", message)
        return troubles

    def _settle(self, entry: Entry, ended: Ended) -> bool:
        # Returns whether its job starts again.
        attempts = read_attempts(entry.run_dir)
        spare = find_spare(entry, len(attempts) + 1)
        kept = spare.find()
        if kept is not None:
            if not record_attempt(entry.run_dir, kept):
                return False  # its job lives, and has just found room for it
            self._keep_log(entry, kept.number)
            spare.discard()
            attempts.append(kept)
        decision = decide(attempts, entry) if attempts else None
        if decision is not None and not decision.again:
            # Its job would have said so, had there been room or had it lived a moment longer.
            record_outcome(entry, decision.conclude(attempts[-1]), attempts=len(attempts))
            return False
        attempt = self._describe(entry, ended, attempts)
        number = len(attempts)
        if attempt.number > number:
            if not record_attempt(entry.run_dir, attempt):
                return False  # its job lives, and has just said how it went
            number = attempt.number
            attempts.append(attempt)
            self._keep_log(entry, attempt.number)
        if ended.nodes:
            # Of one node Slurm says which it was; of several it was the first, or the job had ended itself.
            record_fault(entry, attempt, node=None if re.search(r"[,\[]", ended.nodes) else ended.nodes)
        if attempts and ended.state not in _FOR_GOOD and decide(attempts, entry).again and self.start_again(ended):
            logger.info("job starts again run_id=%s: %s", entry.run_id, ended.message)
            return True
        if record_outcome(entry, replace(attempt, state=ended.outcome), attempts=number):
            logger.info("run settled run_id=%s state=%s: %s", entry.run_id, ended.outcome, ended.message)
        return False

    def _describe(self, entry: Entry, ended: Ended, attempts: Sequence[Attempt]) -> Attempt:
        begun = find_start(entry.run_dir, len(attempts) + 1)
        said = ended.message if begun is not None or attempts else f"{ended.message}; it had not begun"
        if begun is None:
            now = self.clock.now()
            nothing = Attempt(
                run_id=entry.run_id, number=0, state=ended.state, started_at=now, ended_at=now, seconds=0.0
            )
            last = replace(attempts[-1], state=ended.state) if attempts else nothing
        else:
            last = describe_lost(entry, begun, secrets=self._hidden(entry.secrets), clock=self.clock)
            # Why it was told to leave its job has noted; Slurm may only know that it was killed then.
            is_explained = ended.state is JobState.FAILED and last.state is not JobState.NODE_FAILED
            last = last if is_explained else replace(last, state=ended.state)
        evidence = () if last.failure is None else last.failure.evidence
        evidence = evidence or self._read_evidence(ended, entry)
        return replace(last, failure=Failure(_KINDS[last.state], said, evidence))

    def _read_evidence(self, ended: Ended, entry: Entry) -> tuple[str, ...]:
        said = ended.chunk.folder / FOLDER / f"{ended.chunk.job_of(ended.run_id)}.out"
        try:
            with said.open("rb") as stream:
                return pick_evidence(read_tail(stream), self._hidden(entry.secrets))
        except OSError:
            return ()  # a job that never began said nothing

    def _keep_log(self, entry: Entry, number: int) -> None:
        log = scratch_log(entry.scratch, entry.run_id, number)
        try:
            with log.open("rb") as stream:
                keep_log(stream, entry.run_dir.log(number), hidden=self._hidden(entry.secrets))
            log.unlink()
        except FileNotFoundError:
            return  # on a scratch of its own node
        except (OSError, StorageError) as error:
            logger.warning("log stays where it is run_id=%s path=%s reason=%s", entry.run_id, log, error)

    def _hidden(self, names: Collection[str]) -> tuple[str, ...]:
        return tuple(self.environment[name] for name in names if self.environment.get(name))
