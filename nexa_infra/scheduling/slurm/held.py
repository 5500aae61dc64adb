"""Jobs that Slurm holds because a node could not start them: without somebody who lets them go they wait for ever.

A node whose prolog fails is drained, and so is one that a controller without its newest state gave a job it has had
already. The jobs that it was to start go back into the queue, on hold.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nexa_contracts.states import JobState
from nexa_infra.scheduling.entry import locate_outcome
from nexa_infra.scheduling.slurm.chunks import FOLDER, Chunk, list_submission
from nexa_infra.scheduling.slurm.client import SlurmClient, SlurmJob
from nexa_infra.scheduling.slurm.settling import Ended
from nexa_infra.storage.atomic import append_line, make_folder

logger = logging.getLogger(__name__)

_REASON = "launch failed requeued held"
"""Source: https://github.com/SchedMD/slurm, job_reason_string; a job that a person holds has another one."""
_MOST = 3
"""Times that one job is let go: what no node can start is not the nodes' fault."""
_NOTES = "released"


@dataclass(frozen=True, slots=True)
class Releaser:
    """Lets jobs of a project go on."""

    project_runs: Path
    client: SlurmClient
    settle: Callable[[Sequence[Ended]], object] | None = None
    """Gives runs their outcomes; None: what no node can start stays on hold."""

    def release(self, submissions: Sequence[str]) -> int:
        """Let the held jobs of submissions go, and end those that no node starts or whose runs have ended; return for
        how many something was done.

        Raises:
            StorageError: what was handed over cannot be read, or what is done now cannot be noted.
            ExternalError: Slurm does not answer.
        """
        chunks = {chunk.name: chunk for name in submissions for chunk in list_submission(self.project_runs / name)}
        held = [(task, chunks[job.name]) for job in self.client.list_jobs(names=chunks) for task in _list_held(job)]
        done = 0
        for task, chunk in held:
            times = _count(chunk.folder, task)
            if self._has_ended(task, chunk) or (times >= _MOST and self._give_up(task, chunk)):
                self.client.cancel([task], name=chunk.name)
            elif times >= _MOST:
                continue
            else:
                make_folder(chunk.folder / FOLDER)
                append_line(chunk.folder / FOLDER / _NOTES, json.dumps(task).encode())
                self.client.release(task)
                logger.warning("job is let go that a node could not start job_id=%s name=%s", task, chunk.name)
            done += 1
        return done

    def _give_up(self, task: str, chunk: Chunk) -> bool:
        # The outcomes come first: whoever looks after the job's end would take it for cancelled.
        if self.settle is None:
            return False
        said = f"no node could start job {task}: it was let go {_MOST} times and is held again"
        self.settle([Ended(each, chunk, JobState.NODE_FAILED, said) for each in self._list_open(task, chunk)])
        logger.warning("job is ended that no node could start job_id=%s name=%s", task, chunk.name)
        return self._has_ended(task, chunk)

    def _has_ended(self, task: str, chunk: Chunk) -> bool:
        return not self._list_open(task, chunk) and any(chunk.job_of(run_id) == task for run_id in chunk.runs)

    def _list_open(self, task: str, chunk: Chunk) -> list[str]:
        manifests = self.project_runs / "manifests"
        runs = [run_id for run_id in chunk.runs if chunk.job_of(run_id) == task]
        return [run_id for run_id in runs if not locate_outcome(manifests, run_id).exists()]


def _list_held(job: SlurmJob) -> Iterator[str]:
    words = (job.reason or "").replace("_", " ").lower()
    if job.state == "PENDING" and words == _REASON:
        yield from [f"{job.array_job_id}_{number}" for number in job.task_ids] or [job.job_id]


def _count(folder: Path, task: str) -> int:
    try:
        return (folder / FOLDER / _NOTES).read_bytes().splitlines().count(json.dumps(task).encode())
    except FileNotFoundError:
        return 0
