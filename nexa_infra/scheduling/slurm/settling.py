"""Settling a job that Slurm says has ended and that left no outcome: what it could not record is written in its stead.

A job records its own end; this is for those that could not: their node failed, they were killed at their time limit or
for their memory, they were cancelled before they began, or Slurm has lost them. An outcome is created exclusively, so a
job that was only slow to say how it ended is never contradicted twice.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path

from nexa_contracts.clock import Clock
from nexa_contracts.errors import NexaError, StorageError
from nexa_contracts.states import JobState
from nexa_infra.scheduling.blaming import record_fault
from nexa_infra.scheduling.ending import Leave
from nexa_infra.scheduling.entry import Entry, read_entries
from nexa_infra.scheduling.evidence import pick_evidence, read_tail
from nexa_infra.scheduling.fence import find_leaving, find_start
from nexa_infra.scheduling.logs import keep_log, scratch_log
from nexa_infra.scheduling.lost import describe_lost, find_spare
from nexa_infra.scheduling.records import (
    Attempt,
    Failure,
    read_attempts,
    read_regular,
    record_attempt,
    record_outcome,
)
from nexa_infra.scheduling.settle import decide
from nexa_infra.scheduling.slurm.chunks import FOLDER, Chunk
from nexa_infra.scheduling.slurm.client import SlurmJob
from nexa_infra.scheduling.slurm.states import describe
from nexa_infra.storage.run_dir import RunDir

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
_Tasks = Callable[[str], int | None]
"""In which start of the job of a run, from 0, one of its rows last began an attempt; None: in none."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How Slurm says that the job of a run ended."""

    run_id: str
    chunk: Chunk
    state: JobState
    message: str
    nodes: str = ""
    restarts: int | None = None
    """How often it was put back into the queue; None where that is not said."""

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
    return Ended(run_id, chunk, state, said, job.nodes, job.restarts)


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
            last_start = _remember_tasks(members)
            for each in members:
                entry, job_id = entries[each.chunk.runs[each.run_id]], each.chunk.job_of(each.run_id)
                try:
                    other = _find_other_owner(entry.run_dir, job_id)
                    if other is not None:
                        troubles[each.run_id] = other
                        continue
                    # Rows of one task come in their order: those that had not begun have lost nothing.
                    is_next = job_id in again and not entry.run_dir.start(1).exists()
                    if is_next or self._settle(entry, each, last_start):
                        again.add(job_id)
                        troubles[each.run_id] = _AGAIN
                except StorageError as error:
                    troubles[each.run_id] = error.message
        for message in sorted(set(troubles.values()) - {_AGAIN}):
            logger.warning("runs cannot be settled now: %s", message)
        return troubles

    def _settle(self, entry: Entry, ended: Ended, last_start: _Tasks) -> bool:
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
        if ended.nodes and find_leaving(entry.run_dir, number) is not Leave.NODE_FAILED:
            # Of one node Slurm says which it was; of several it was the first, or the job has blamed it itself.
            record_fault(entry, attempt, node=None if re.search(r"[,\[]", ended.nodes) else ended.nodes)
        ends = _list_ends(ended, attempts, attempt, last_start)
        if ends is not None and (not ends or decide(ends, entry).again) and self.start_again(ended):
            logger.info("job starts again run_id=%s: %s", entry.run_id, ended.message)
            return True
        if record_outcome(entry, replace(attempt, state=ended.outcome), attempts=number):
            logger.info("run settled run_id=%s state=%s: %s", entry.run_id, ended.outcome, ended.message)
        return False

    def _describe(self, entry: Entry, ended: Ended, attempts: Sequence[Attempt]) -> Attempt:
        begun = find_start(entry.run_dir, len(attempts) + 1)
        said = ended.message
        if begun is None:
            said += "; it had not begun another attempt" if attempts else "; it had not begun"
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
        is_anothers = find_leaving(entry.run_dir, last.number) is Leave.NODE_FAILED
        kind = "killed" if is_anothers and last.state is JobState.NODE_FAILED else _KINDS[last.state]
        return replace(last, failure=Failure(kind, said, evidence))

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


def _list_ends(ended: Ended, attempts: Sequence[Attempt], end: Attempt, last_start: _Tasks) -> Sequence[Attempt] | None:
    """Return what the budgets of a run are asked about before its job, which ended so, starts again; None: it does not.

    A start of the job that began nothing counts as one more end: whatever keeps the entry from it may last for ever.
    A row that others of its task went before has lost nothing by their end.
    """
    if ended.state is JobState.CANCELLED or (attempts and ended.state in _FOR_GOOD):
        return None
    if not attempts and ended.chunk.rows_per_task == 1:
        return None
    last = last_start(ended.run_id)
    if last is None and not attempts:
        return None
    idle = 0 if ended.restarts is None else max(0, ended.restarts - (last or 0))
    return [*attempts, *[end] * idle]


def _remember_tasks(members: Sequence[Ended]) -> _Tasks:
    # A task may have hundreds of rows, and of a large sweep all of them end at once: each is looked at once.
    chunks = {each.run_id: each.chunk for each in members}
    rows: dict[tuple[Path, int], list[str]] = {}
    for chunk in {chunk.path: chunk for chunk in chunks.values()}.values():
        for run_id, index in chunk.runs.items():
            rows.setdefault((chunk.path, index // chunk.rows_per_task), []).append(run_id)

    @cache
    def find(path: Path, runs: Path, task: int) -> int | None:
        begun = [_find_newest_start(RunDir(runs / run_id)) for run_id in rows[path, task]]
        return max((restarts for restarts in begun if restarts is not None), default=None)

    def last_start(run_id: str) -> int | None:
        chunk = chunks[run_id]
        return find(chunk.path, chunk.project_runs, chunk.runs[run_id] // chunk.rows_per_task)

    return last_start


def _find_newest_start(run_dir: RunDir) -> int | None:
    number = 0
    while run_dir.start(number + 1).exists():
        number += 1
    begun = find_start(run_dir, number) if number else None
    return None if begun is None else begun.restarts


def _find_other_owner(run_dir: RunDir, job_id: str | None) -> str | None:
    """Return that a run belongs to another job than the one that ended; None when it does not.

    Where an answer of sbatch was lost there may be two of one name. What stands there and names no job lets no job run.
    """
    try:
        found = json.loads(read_regular(run_dir.owner))
        owner = found["job_id"]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{run_dir.owner}: cannot be read: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    if owner in ("", job_id):
        return None
    return f"it belongs to job {owner}; when Slurm does not know that one any more, remove {run_dir.owner}"
