"""Looking at runs: one question to Slurm, lost answers found, and what has ended in silence settled."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from nexa_contracts.clock import Clock
from nexa_contracts.errors import StorageError
from nexa_contracts.states import JobState
from nexa_infra.scheduling.fence import Owner, claim_run
from nexa_infra.scheduling.lock import FileLock
from nexa_infra.scheduling.records import read_regular
from nexa_infra.scheduling.slurm.belonging import Home
from nexa_infra.scheduling.slurm.chunks import FOLDER, Chunk, read_cancelled
from nexa_infra.scheduling.slurm.client import SlurmClient, SlurmJob, SlurmRefused
from nexa_infra.scheduling.slurm.looking import Jobs, RunState, look_at
from nexa_infra.scheduling.slurm.settling import Ended, SlurmSettler, describe_loss
from nexa_infra.scheduling.slurm.submission import Submitter
from nexa_infra.scheduling.slurm.view import LIVING, QUEUED, parse_view
from nexa_infra.storage.atomic import replace_file
from nexa_infra.storage.layout import Project
from nexa_infra.storage.recorded import find_ended
from nexa_infra.storage.run_dir import RunDir

logger = logging.getLogger(__name__)

_LOCK_WAIT_S = 10.0
_CANCELLED = "cancelled"
"""Claims a run in the place of a job's name."""


class Looker:
    """Knows how to tell what the runs of a project are doing."""

    def __init__(
        self, project_runs: Path, *, client: SlurmClient, environment: Mapping[str, str], clock: Clock
    ) -> None:
        self._runs = project_runs
        self._project = Project(project_runs.parent)
        self._client = client
        self._clock = clock
        self._home = Home(client)
        self._submitter = Submitter(client, clock, "")
        self._settler = SlurmSettler(environment=environment, clock=clock, start_again=self._start_again)

    def look(self, chunks: Mapping[str, Chunk], *, settles: bool = True) -> dict[str, RunState]:
        """Return what is known of each of these runs, and settle those whose jobs have ended in silence.

        Slurm is asked once, and not at all when every run has its outcome. Without `settles` nothing is written.

        Raises:
            StorageError: an outcome cannot be read.
            ExternalError: Slurm does not answer.
        """
        ends = {run_id: self._find_end(run_id) for run_id in find_ended(self._project, chunks.keys())}
        states = {run_id: RunState(state) for run_id, state in ends.items() if state is not None}
        waiting = {run_id: chunk for run_id, chunk in chunks.items() if run_id not in states}
        if not waiting:
            return states
        listed = self._client.list_jobs()
        jobs = Jobs(listed)
        if settles:
            waiting = self._adopt(waiting, jobs, listed)
            self._home.learn(waiting, jobs)
        foreign = self._home.find_foreign(waiting, jobs)
        states.update({run_id: RunState(JobState.UNKNOWN, reason=why) for run_id, why in foreign.items()})
        ours = {run_id: chunk for run_id, chunk in waiting.items() if run_id not in foreign}
        look = look_at(ours, jobs, client=self._client, project_runs=self._runs, clock=self._clock, notes=settles)
        return {**states, **look.states, **self._settle(look.ended, settles=settles)}

    def end_rows(self, chunks: Mapping[str, Chunk]) -> None:
        """End runs that share their task with others: on record where no job has begun them, else by a wish that the
        job finds in the run's folder.

        Raises:
            StorageError: a run's folder cannot be read or written.
        """
        ended = []
        for run_id, chunk in chunks.items():
            # Whoever claims it is the only one who may run it: its task passes it over.
            ours = Owner(cluster="", job_id=chunk.job_of(run_id) or "", name=_CANCELLED)
            run_dir = RunDir(self._runs / run_id)
            if claim_run(run_dir, ours, clock=self._clock) == ours:
                ended.append(describe_loss(run_id, chunk, is_cancelled=True))
            else:
                replace_file(run_dir.cancel, json.dumps({"asked_at": self._clock.now().isoformat()}).encode() + b"\n")
        self._settler.settle(ended)

    def drop_if_ended(self, chunk: Chunk) -> bool:
        """Settle the cancelled runs of a chunk that Slurm does not hold; return whether nothing is left to hand over.

        It is forgotten then. One whose answer was lost is looked for first.

        Raises:
            StorageError: the disk is read-only or broken.
            ExternalError: Slurm does not answer.
        """
        if chunk.job_id is not None:
            return False
        going = [run_id for run_id in chunk.runs if self._find_end(run_id) is None]
        unwanted = read_cancelled(chunk.folder).intersection(going)
        if chunk.asked_at is not None:
            if len(unwanted) < len(going):
                return False
            if self._home.explain(chunk) is not None:
                return not going
            if self._submitter.find_lost(chunk) is not None:
                return False
        troubles = self._settler.settle([describe_loss(run_id, chunk, is_cancelled=True) for run_id in unwanted])
        is_over = len(unwanted) == len(going)
        if is_over and not troubles:
            chunk.forget()
        return is_over

    def _settle(self, ended: Sequence[Ended], *, settles: bool) -> dict[str, RunState]:
        if not settles:
            why = "not settled by this look"
            return {each.run_id: RunState(JobState.UNKNOWN, reason=f"{each.message}; {why}") for each in ended}
        troubles = self._settler.settle(ended)
        states: dict[str, RunState] = {}
        for each in ended:
            state = self._find_end(each.run_id)
            why = f"{each.message}; no outcome yet: {troubles.get(each.run_id, 'its job records that itself')}"
            states[each.run_id] = RunState(JobState.UNKNOWN, reason=why) if state is None else RunState(state)
        return states

    def _start_again(self, ended: Ended) -> bool:
        """Put a job back into the queue that ended before it could do so itself; return whether it will start.

        Whoever looks at the same time must not end what this one has let start.
        """
        chunk, job_id = ended.chunk, ended.chunk.job_of(ended.run_id)
        if job_id is None or ended.run_id in read_cancelled(chunk.folder):
            return False
        with FileLock(chunk.folder / FOLDER / ".again.lock") as lock:
            if not lock.acquire(wait_s=_LOCK_WAIT_S, clock=self._clock):
                raise StorageError(f"{chunk.folder}: another process looks after it")
            try:
                known = self._client.show_job(job_id)
                if known.get("JobName") != chunk.name:
                    return False
                if parse_view(known).state not in QUEUED | LIVING:
                    self._client.requeue(job_id)
            except SlurmRefused as error:
                logger.info("job is not started again run_id=%s reason=%s", ended.run_id, error)
                return False
        return True

    def _find_end(self, run_id: str) -> JobState | None:
        return read_outcome_state(self._project.outcome(run_id))

    def _adopt(self, chunks: Mapping[str, Chunk], jobs: Jobs, listed: tuple[SlurmJob, ...]) -> dict[str, Chunk]:
        lost = {chunk.name: chunk for chunk in chunks.values() if chunk.job_id is None and chunk.name in jobs.names}
        if not lost:
            return dict(chunks)
        found = {name: self._submitter.find(chunk, listed) or chunk for name, chunk in lost.items()}
        return {run_id: found.get(chunk.name, chunk) for run_id, chunk in chunks.items()}


def read_outcome_state(path: Path) -> JobState | None:
    """Return the state in an outcome's file; None while there is none.

    Raises:
        StorageError: the disk does not let us read it.
    """
    try:
        return JobState(json.loads(read_regular(path))["state"])
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        # It stays as it is for a person to see, and nobody waits for another one.
        logger.warning("outcome cannot be read path=%s reason=%s", path, error)
        return JobState.FAILED
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error
