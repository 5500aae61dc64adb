"""What the backend knows of runs that have not ended: their states, their logs, and how to end them.

Loads no contract: `nexa runs`, `logs`, `status` and `cancel` start fast.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from nexa_contracts.clock import Clock, SystemClock
from nexa_contracts.errors import NotFound, StorageUnavailable
from nexa_contracts.ids import is_sweep_id
from nexa_contracts.states import JobState
from nexa_infra.operations.backends import local_backend, slurm_backend, state_dir
from nexa_infra.operations.context import open_project
from nexa_infra.operations.progress import read_object
from nexa_infra.operations.status import LiveState, LiveStates
from nexa_infra.scheduling.local_queue import LocalQueue
from nexa_infra.scheduling.process_tree import read_boot_id
from nexa_infra.scheduling.queued_job import Job
from nexa_infra.scheduling.waiting import explain_waits
from nexa_infra.storage.index import open_index
from nexa_infra.storage.layout import Project
from nexa_infra.storage.run_rows import RunRow
from nexa_infra.storage.where import Condition

if TYPE_CHECKING:
    from nexa_infra.operations.slurm_states import SlurmStates


def live_states(
    project: Project | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    clock: Clock | None = None,
    explains: bool = False,
    settles: bool = True,
) -> LiveStates:
    """Return the question to ask about runs of a project (None: of the working folder's).

    Asking it also sees to it that they are looked after: that this machine's queue has a supervisor, and that what
    Slurm says has ended in silence is settled. A cluster serves many: asked again and again, it is asked less often.
    With `explains` it also says what the jobs of this machine wait for, which changes with all that starts or ends.
    Without `settles` nothing is written about runs on Slurm: one that has ended in silence is UNKNOWN.
    """
    variables = os.environ if environment is None else environment
    here = project or open_project(environment=variables)
    watch = clock or SystemClock()
    slurm: list[SlurmStates] = []
    local = _local_states(variables, watch, explains=explains)
    names: dict[str, str] = {}

    def ask(run_ids: Sequence[str]) -> Mapping[str, LiveState]:
        by_backend = sort_by_backend(here, run_ids, known=names)
        states = dict(local(by_backend.get("local", [])))
        if "slurm" in by_backend:
            slurm.extend(() if slurm else [_slurm_states(here, variables, watch, settles=settles)])
            states.update(slurm[0].ask(by_backend["slurm"]))
        return states

    return ask


def sort_by_backend(
    project: Project, run_ids: Sequence[str], *, known: dict[str, str] | None = None
) -> dict[str, list[str]]:
    """Return runs by where they are, `local` or `slurm`; one whose manifest cannot be read counts as this machine's.

    Of the runs of one launch one manifest is read; `known` keeps what was found for the next time.
    """
    names = {} if known is None else known
    found: dict[str, list[str]] = {}
    for run_id in run_ids:
        stamp = run_id.partition("-")[0]
        if stamp not in names:
            names[stamp] = str(read_object(project.manifest(run_id)).get("backend", "local"))
        found.setdefault("slurm" if names[stamp] == "slurm" else "local", []).append(run_id)
    return found


def member_ids(project: Project, submission: str) -> tuple[str, ...]:
    """Return the run itself, or the newest run of each member of a sweep in member order.

    Raises:
        NotFound: the sweep has no runs.
    """
    if not is_sweep_id(submission):
        return (submission,)
    return tuple(row.run_id for row in member_rows(project, submission))


def member_rows(project: Project, submission: str) -> list[RunRow]:
    """Return the run itself, or the newest run of each member of a sweep in member order, as the index has them.

    Raises:
        NotFound: the sweep has no runs.
    """
    if not is_sweep_id(submission):
        with open_index(project) as index:
            found = index.find_run(submission)
        return [] if found is None else [found]
    newest = _newest_rows(project, submission)
    if not newest:
        raise NotFound(f"{submission}: no run of this sweep in {project.runs}")
    return [row for _, row in sorted(newest.items())]


def newest_members(project: Project, sweep_id: str) -> dict[int, str]:
    """Return the newest run id of each member of a sweep, by index; run ids sort by time."""
    return {member: row.run_id for member, row in _newest_rows(project, sweep_id).items()}


def read_logs(project: Project, run_id: str, *, follow: bool) -> Iterator[str]:
    """Return the lines a run printed over all its attempts; what its backend has forgotten: from the kept logs."""
    try:
        if "slurm" in sort_by_backend(project, [run_id]):
            return slurm_backend(project, os.environ).run_logs(run_id, follow=follow)
        return local_backend().run_logs(run_id, follow=follow)
    except NotFound:
        return _kept_lines(project, run_id)
    except StorageUnavailable:
        if not project.outcome(run_id).exists():
            raise
        return _kept_lines(project, run_id)  # all of it: nothing is added to a run that has ended


def cancel_runs(
    project: Project, run_ids: Sequence[str], *, environment: Mapping[str, str] | None = None
) -> frozenset[str]:
    """Ask for the end of runs and return at once; return those their backend knows.

    Raises:
        StorageError: the wish cannot be written down.
        ExternalError: Slurm does not answer; the wish stands, and `nexa watch` passes it on.
    """
    by_backend = sort_by_backend(project, run_ids)
    variables = os.environ if environment is None else environment
    held = local_backend(variables).cancel_runs(by_backend["local"]) if "local" in by_backend else frozenset()
    if "slurm" in by_backend:
        held |= slurm_backend(project, variables).cancel_runs(by_backend["slurm"])
    return held


def _kept_lines(project: Project, run_id: str) -> Iterator[str]:
    attempt = 1
    while (path := project.log(run_id, attempt)).exists():
        with path.open(encoding="utf-8", errors="replace") as stream:
            for line in stream:
                yield line.rstrip("\r\n")
        attempt += 1


def _newest_rows(project: Project, sweep_id: str) -> dict[int, RunRow]:
    newest: dict[int, RunRow] = {}
    with open_index(project) as index:
        for row in index.find_runs([Condition("sweep", "=", sweep_id)]):
            member = row.member
            if member is not None and (member not in newest or newest[member].run_id < row.run_id):
                newest[member] = row
    return newest


def _slurm_states(project: Project, environment: Mapping[str, str], clock: Clock, *, settles: bool) -> SlurmStates:
    from nexa_infra.operations.slurm_states import SlurmStates  # which runs on this machine alone do not need

    return SlurmStates(project, environment, clock, settles=settles)


def _local_states(environment: Mapping[str, str], clock: Clock, *, explains: bool) -> LiveStates:
    queue_file = state_dir(environment).queue

    def ask(run_ids: Sequence[str]) -> dict[str, LiveState]:
        if not run_ids or not queue_file.exists():
            return {}
        local_backend(environment).ensure_supervised()
        with closing(LocalQueue(queue_file)) as queue:
            jobs = queue.find_runs(run_ids)
            if explains:
                jobs = explain_waits(jobs, queue.list_running(), now_s=clock.monotonic_s())
        boot_id = read_boot_id()
        return {run_id: _live_state(job, boot_id, clock) for run_id, job in jobs.items()}

    return ask


def _live_state(job: Job, boot_id: str, clock: Clock) -> LiveState:
    seconds = None
    if job.state is JobState.RUNNING and job.started_s is not None and job.boot_id == boot_id:
        ended_s = clock.monotonic_s() if job.ended_s is None else job.ended_s
        seconds = max(0.0, ended_s - job.started_s)
    return LiveState(state=job.state, attempt=job.attempt or None, seconds=seconds, reason=job.reason)
