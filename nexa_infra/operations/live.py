"""What the backend knows of runs that have not ended: their states, their logs, and how to end them.

Loads no contract: `nexa runs`, `logs`, `status` and `cancel` start fast.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

from nexa_contracts.clock import Clock, SystemClock
from nexa_contracts.errors import NotFound, StorageUnavailable
from nexa_contracts.ids import is_sweep_id
from nexa_contracts.states import JobState
from nexa_infra.operations.backends import local_backend, state_dir
from nexa_infra.operations.status import LiveState, LiveStates
from nexa_infra.scheduling.local_queue import LocalQueue
from nexa_infra.scheduling.process_tree import read_boot_id
from nexa_infra.scheduling.queued_job import Job
from nexa_infra.storage.index import open_index
from nexa_infra.storage.layout import Project
from nexa_infra.storage.where import Condition


def live_states(environment: Mapping[str, str] | None = None, *, clock: Clock | None = None) -> LiveStates:
    """Return the question to ask about runs; asking it also sees to it that a supervisor looks after them."""
    variables = os.environ if environment is None else environment
    queue_file = state_dir(variables).queue
    watch = clock or SystemClock()

    def ask(run_ids: Sequence[str]) -> dict[str, LiveState]:
        if not run_ids or not queue_file.exists():
            return {}
        local_backend(variables).ensure_supervised()
        with closing(LocalQueue(queue_file)) as queue:
            jobs = queue.find_runs(run_ids)
        boot_id = read_boot_id()
        return {run_id: _live_state(job, boot_id, watch) for run_id, job in jobs.items()}

    return ask


def member_ids(project: Project, submission: str) -> tuple[str, ...]:
    """Return the run itself, or the newest run of each member of a sweep in member order.

    Raises:
        NotFound: the sweep has no runs.
    """
    if not is_sweep_id(submission):
        return (submission,)
    newest = newest_members(project, submission)
    if not newest:
        raise NotFound(f"{submission}: no run of this sweep in {project.runs}")
    return tuple(run_id for _, run_id in sorted(newest.items()))


def newest_members(project: Project, sweep_id: str) -> dict[int, str]:
    """Return the newest run id of each member of a sweep, by index; run ids sort by time."""
    newest: dict[int, str] = {}
    with open_index(project) as index:
        for row in index.find_runs([Condition("sweep", "=", sweep_id)]):
            if row.member is not None:
                newest[row.member] = max(newest.get(row.member, ""), row.run_id)
    return newest


def read_logs(project: Project, run_id: str, *, follow: bool) -> Iterator[str]:
    """Return the lines a run printed over all its attempts; what the queue has forgotten is read from the kept logs."""
    try:
        return local_backend().run_logs(run_id, follow=follow)
    except NotFound:
        return _kept_lines(project, run_id)
    except StorageUnavailable:
        if not project.outcome(run_id).exists():
            raise
        return _kept_lines(project, run_id)  # all of it: nothing is added to a run that has ended


def cancel_runs(run_ids: Sequence[str]) -> frozenset[str]:
    """Ask for the end of runs and return at once; return those the backend knows."""
    return local_backend().cancel_runs(run_ids)


def _kept_lines(project: Project, run_id: str) -> Iterator[str]:
    attempt = 1
    while (path := project.log(run_id, attempt)).exists():
        with path.open(encoding="utf-8", errors="replace") as stream:
            for line in stream:
                yield line.rstrip("\r\n")
        attempt += 1


def _live_state(job: Job, boot_id: str, clock: Clock) -> LiveState:
    seconds = None
    if job.state is JobState.RUNNING and job.started_s is not None and job.boot_id == boot_id:
        ended_s = clock.monotonic_s() if job.ended_s is None else job.ended_s
        seconds = max(0.0, ended_s - job.started_s)
    return LiveState(state=job.state, attempt=job.attempt or None, seconds=seconds, reason=job.reason)
