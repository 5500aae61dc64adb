"""One look at many runs: what their chunks, their own files and one answer of Slurm say together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

from nexa_contracts.clock import Clock
from nexa_contracts.errors import StorageError
from nexa_contracts.states import JobState
from nexa_infra.scheduling.fence import find_start
from nexa_infra.scheduling.slurm.absence import note_missing
from nexa_infra.scheduling.slurm.chunks import Chunk, read_cancelled
from nexa_infra.scheduling.slurm.client import SlurmClient, SlurmJob
from nexa_infra.scheduling.slurm.settling import Ended, describe_loss, judge
from nexa_infra.scheduling.slurm.states import describe
from nexa_infra.storage.run_dir import RunDir

_NO_ROOM = "waits for room: slurm.max_submitted of the site file; `nexa watch` hands it over"
_LOST_ANSWER = "handed to Slurm, whose answer was lost; `nexa watch` asks again"
_NO_TURN = "waits for the rows before it in its task"
_MISSED = "Slurm does not know its job; a second look decides"


@dataclass(frozen=True, slots=True)
class RunState:
    """What Slurm and a run's own files say of a run that has no outcome."""

    state: JobState
    attempt: int | None = None
    seconds: float | None = None
    """Since the attempt that is running began."""
    reason: str | None = None


class Jobs:
    """One answer of Slurm, by name, array job and task.

    The name belongs to it: a controller that was killed has lost its newest jobs, and gives their ids out again.
    """

    def __init__(self, jobs: Iterable[SlurmJob]) -> None:
        self._by_task: dict[tuple[str, str, int | None], SlurmJob] = {}
        self.names: set[str] = set()
        for job in jobs:
            self.names.add(job.name)
            for task in job.task_ids or (None,):
                self._by_task[job.name, job.array_job_id, task] = job

    def find(self, run_id: str, chunk: Chunk) -> SlurmJob | None:
        """Return the job of a run; None when Slurm knows none, or another one under that id."""
        if chunk.job_id is None:
            return None
        return self._by_task.get((chunk.name, chunk.job_id, chunk.task_of(run_id)))


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of runs that have no outcome, after one question."""

    states: Mapping[str, RunState]
    """Of those that go on."""
    ended: Sequence[Ended]
    """Those whose jobs have ended: they are to be settled."""


def look_at(
    chunks: Mapping[str, Chunk],
    jobs: Jobs,
    *,
    client: SlurmClient,
    project_runs: Path,
    clock: Clock,
    notes: bool = True,
) -> Look:
    """Return what is known of runs by their chunks; asks accounting about jobs that Slurm does not know any more.

    With `notes` what is missing is written down: a run is lost that was missing at a look before.

    Raises:
        ExternalError: accounting does not answer.
    """
    states: dict[str, RunState] = {}
    ended: list[Ended] = []
    missing: dict[str, Chunk] = {}
    cancelled = cache(read_cancelled)
    now = clock.now()
    for run_id, chunk in chunks.items():
        if chunk.job_id is None and run_id in cancelled(chunk.folder):
            missing[run_id] = chunk
            continue
        if chunk.job_id is None:
            waits = chunk.asked_at is None
            states[run_id] = RunState(
                JobState.PENDING if waits else JobState.UNKNOWN, reason=_NO_ROOM if waits else _LOST_ANSWER
            )
            continue
        job = jobs.find(run_id, chunk)
        end = None if job is None else judge(run_id, chunk, job)
        if job is None or (end is not None and end.state is JobState.PREEMPTED):
            missing[run_id] = chunk  # preempted: it may be on its way back into the queue
        elif end is not None:
            ended.append(end)
        else:
            states[run_id] = _describe(run_id, chunk, job, project_runs, now)
    traced = _trace(missing, jobs, client)
    ended += traced.values()
    absent = _find_absent(missing.keys() - traced.keys(), chunks, now) if notes else frozenset()
    for run_id in missing.keys() - traced.keys():
        if run_id not in absent:
            states[run_id] = RunState(JobState.UNKNOWN, reason=_MISSED)
            continue
        job = jobs.find(run_id, chunks[run_id])
        known = None if job is None else judge(run_id, chunks[run_id], job)
        ended.append(known or describe_loss(run_id, chunks[run_id], is_cancelled=False))
    return Look(states, ended)


def _trace(missing: Mapping[str, Chunk], jobs: Jobs, client: SlurmClient) -> dict[str, Ended]:
    """Return how those ended of which something else tells: a wish to cancel them, or accounting."""
    cancelled = cache(read_cancelled)
    traced = {
        run_id: describe_loss(run_id, chunk, is_cancelled=True)
        for run_id, chunk in missing.items()
        if run_id in cancelled(chunk.folder)
    }
    gone = {
        run_id: chunk for run_id, chunk in missing.items() if run_id not in traced and jobs.find(run_id, chunk) is None
    }
    return {**traced, **_ask_accounting(gone, client)}


def _find_absent(missing: Collection[str], chunks: Mapping[str, Chunk], now: datetime) -> frozenset[str]:
    """Return which runs are missing for sure, by what was noted at earlier looks in each folder."""
    by_folder: dict[Path, tuple[list[str], list[str]]] = {}
    for run_id, chunk in chunks.items():
        absent, seen = by_folder.setdefault(chunk.folder, ([], []))
        (absent if run_id in missing else seen).append(run_id)
    return frozenset(
        run_id
        for folder, (absent, seen) in by_folder.items()
        for run_id in note_missing(folder, absent, seen=seen, now=now)
    )


def _ask_accounting(missing: Mapping[str, Chunk], client: SlurmClient) -> dict[str, Ended]:
    ids = {run_id: chunk.job_of(run_id) for run_id, chunk in missing.items()}
    answer = client.account([job_id for job_id in ids.values() if job_id is not None]) if ids else None
    if answer is None:
        return {}
    recorded = Jobs(answer)
    found = ((run_id, recorded.find(run_id, chunk), chunk) for run_id, chunk in missing.items())
    ends = {run_id: judge(run_id, chunk, job) for run_id, job, chunk in found if job is not None}
    return {run_id: end for run_id, end in ends.items() if end is not None}


def _describe(run_id: str, chunk: Chunk, job: SlurmJob, project_runs: Path, now: datetime) -> RunState:
    state, reason = describe(job)
    if state is JobState.PENDING and not job.restarts:
        return RunState(state, reason=reason)  # most of a large sweep: nothing of it is on disk yet
    run_dir = RunDir(project_runs / run_id)
    try:
        attempt, seconds = _read_attempt(run_dir, now)
    except StorageError as error:
        return RunState(state, reason=error.message)
    if state is JobState.RUNNING and chunk.rows_per_task > 1 and not run_dir.owner.exists():
        return RunState(JobState.PENDING, reason=_NO_TURN)
    if state is not JobState.RUNNING:
        return RunState(state, attempt=attempt, reason=reason)
    return RunState(state, attempt=attempt or 1, seconds=seconds, reason=reason)


def _read_attempt(run_dir: RunDir, now: datetime) -> tuple[int | None, float | None]:
    number = 0
    while run_dir.start(number + 1).exists():
        number += 1
    begun = find_start(run_dir, number) if number and not run_dir.attempt(number).exists() else None
    seconds = None if begun is None else max(0.0, (now - begun.started_at).total_seconds())
    return number or None, seconds


def choose_jobs(run_ids: Collection[str], chunks: Mapping[str, Chunk]) -> dict[str, list[str]]:
    """Return what Slurm calls the jobs of runs, by the name of their chunk; a whole chunk by one id.

    A task of several rows is named only if all its rows are: the others go on.
    """
    by_chunk: dict[str, tuple[Chunk, set[str]]] = {}
    for run_id in run_ids:
        chunk = chunks.get(run_id)
        if chunk is not None and chunk.job_id is not None:
            by_chunk.setdefault(chunk.name, (chunk, set()))[1].add(run_id)
    jobs: dict[str, list[str]] = {}
    for name, (chunk, chosen) in by_chunk.items():
        if chunk.job_id is not None and len(chosen) == len(chunk.runs):
            jobs[name] = [chunk.job_id]
            continue
        kept = {chunk.job_of(run_id) for run_id in chunk.runs if run_id not in chosen}
        ids = {chunk.job_of(run_id) for run_id in chosen} - kept
        jobs[name] = sorted(job_id for job_id in ids if job_id is not None)
    return jobs
