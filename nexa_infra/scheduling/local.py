"""The local backend: jobs on this machine, through a queue that all projects of a user share.

Contracts are imported where a plan is rendered or read: `nexa logs` and `nexa cancel` do not pay for pydantic.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nexa_contracts.clock import Clock, SystemClock
from nexa_contracts.errors import ConfigError, NotFound
from nexa_contracts.states import JobState
from nexa_contracts.units import parse_size_bytes
from nexa_infra.process import CommandRunner, SystemRunner
from nexa_infra.scheduling.admission import Ask, Limits, explain_misfit
from nexa_infra.scheduling.entry import locate_outcome
from nexa_infra.scheduling.local_queue import LocalQueue
from nexa_infra.scheduling.logs import Progress, read_log, scratch_log
from nexa_infra.scheduling.machine import read_machine
from nexa_infra.scheduling.queued_job import Job, NewJob
from nexa_infra.scheduling.state_dir import StateDir
from nexa_infra.scheduling.supervision import check_secrets, ensure_supervisor
from nexa_infra.storage.run_dir import RunDir

if TYPE_CHECKING:
    from nexa_contracts.job import JobHandle, JobSpec, LaunchPlan, SpecEntry
    from nexa_contracts.resources import Resources
    from nexa_contracts.site import LocalLimits, SiteConfig
    from nexa_infra.scheduling.backend import LaunchRequest

_LOOK_AFTER_S = 2.0
"""How often who follows a log makes sure that someone still supervises."""
LIMITS_FILE = "limits.json"
"""Beside the spec: how much of the machine the site lets its jobs use."""


class LocalBackend:
    """Runs jobs on this machine, as many at a time as its cores, memory and GPUs hold."""

    name = "local"

    def __init__(
        self,
        state: StateDir,
        *,
        environment: Mapping[str, str],
        clock: Clock | None = None,
        runner: CommandRunner | None = None,
    ) -> None:
        """Make a backend over a state folder; nothing is touched until it is used.

        `environment` is the launcher's own: secrets that jobs name are taken from it.
        """
        self._state = state
        self._environment = environment
        self._clock = clock if clock is not None else SystemClock()
        self._runner = runner if runner is not None else SystemRunner()

    def check_fits(self, resources: Resources, site: SiteConfig) -> None:
        """Judge whether a job of this size can ever run on this machine, and whether the queue would take it now.

        Raises:
            ConfigError: it cannot; the message says what it asks for and what there is.
            ExternalError: it asks for GPUs, and the driver does not answer.
            StorageError: the queue cannot be written, or is damaged.
        """
        self._check_size(resources, _read_limits(site.local))
        with closing(LocalQueue(self._state.queue)) as queue:
            queue.check_writable()

    def plan(self, request: LaunchRequest, site: SiteConfig) -> LaunchPlan:
        """Return everything `submit` would do, as data; touches nothing, and is equal at every call.

        Raises:
            ConfigError: the request can never run on one machine.
        """
        from nexa_contracts.job import LaunchPlan, PlannedFile
        from nexa_infra.scheduling.backend import SPEC_FILE, render_spec

        _check_nodes(request.resources)
        limits = _read_limits(site.local)
        return LaunchPlan(
            backend=self.name,
            launcher=request.launcher,
            submission=request.submission,
            job_count=len(request.entries),
            resources=request.resources,
            files=(
                PlannedFile(path=SPEC_FILE, text=render_spec(request)),
                PlannedFile(path=LIMITS_FILE, text=json.dumps(asdict(limits)) + "\n"),
            ),
            commands=(),
            max_parallel=request.max_parallel,
        )

    def submit(self, plan: LaunchPlan, directory: Path) -> tuple[JobHandle, ...]:
        """Queue a plan whose files stand in `directory`, and return a handle per run, in index order.

        Raises:
            NotFound: the spec does not stand there.
            ConfigError: a job can never run on this machine, or a named secret is set nowhere.
            StorageError: the queue cannot be written, or is damaged.
            ExternalError: jobs ask for GPUs, and the driver does not answer.
        """
        from nexa_contracts.job import JobHandle
        from nexa_infra.scheduling.backend import SPEC_FILE

        jobs = self._read_jobs(plan, directory.resolve() / SPEC_FILE)
        names = {name for job in jobs for name in job.secrets}
        with closing(LocalQueue(self._state.queue)) as queue:
            check_secrets(names, self._state, queue, environment=self._environment)
            job_ids = queue.add_jobs(jobs)
            ensure_supervisor(self._state, queue, environment=self._environment, clock=self._clock, fresh=names)
        return tuple(
            JobHandle(backend="local", job_id=str(job_id), name=job.run_id)
            for job_id, job in zip(job_ids, jobs, strict=True)
        )

    def states(self, handles: Sequence[JobHandle]) -> dict[JobHandle, JobState]:
        """Return the state of every handle by one query; UNKNOWN where the queue does not know the job.

        Raises:
            StorageError: the queue cannot be read, or is damaged.
        """
        by_id = {int(handle.job_id): handle for handle in handles if handle.job_id.isdecimal()}
        with closing(LocalQueue(self._state.queue)) as queue:
            found = queue.find_states(list(by_id))
            self._look_after(queue, [state for _, state in found.values()])
        # A queue that was removed and made anew gives its ids out again, so the name must fit too.
        states = {handle: JobState.UNKNOWN for handle in handles}
        states.update({by_id[id]: state for id, (run_id, state) in found.items() if by_id[id].name == run_id})
        return states

    def cancel(self, handles: Sequence[JobHandle]) -> None:
        """Ask for the end of the jobs and return at once; safe to repeat, and does nothing to an ended job.

        Raises:
            StorageError: the queue cannot be written, or is damaged.
        """
        self.cancel_runs([handle.name for handle in handles])

    def cancel_runs(self, run_ids: Sequence[str]) -> frozenset[str]:
        """Ask for the end of runs by their ids; return those that the queue knows.

        Raises:
            StorageError: the queue cannot be written, or is damaged.
        """
        with closing(LocalQueue(self._state.queue)) as queue:
            jobs = queue.find_runs(run_ids)
            queue.request_cancel([job.job_id for job in jobs.values()])
            self._look_after(queue, [job.state for job in jobs.values()])
        return frozenset(jobs)

    def logs(self, handle: JobHandle, *, follow: bool = False) -> Iterator[str]:
        """Return the lines of a job's log over all its attempts; with `follow` until the job ends.

        Raises:
            NotFound: the queue does not know the job.
            StorageError: the queue cannot be read, or is damaged.
        """
        return self.run_logs(handle.name, follow=follow)

    def run_logs(self, run_id: str, *, follow: bool = False) -> Iterator[str]:
        """Return the lines of a run's log over all its attempts; with `follow` until the run ends.

        Raises:
            NotFound: the queue does not know the run.
            StorageError: the queue cannot be read, or is damaged.
        """
        with closing(LocalQueue(self._state.queue)) as queue:
            job = _require(queue, run_id)
            self._look_after(queue, [job.state])
        return self._read_logs(job, follow=follow)

    def ensure_supervised(self) -> None:
        """Make sure that what waits or runs is looked after, as when the supervisor was killed.

        Raises:
            StorageError: the queue cannot be read, or is damaged.
        """
        if self._state.queue.exists():
            with closing(LocalQueue(self._state.queue)) as queue:
                if queue.has_unsettled():
                    ensure_supervisor(self._state, queue, environment=self._environment, clock=self._clock)

    def _look_after(self, queue: LocalQueue, states: Sequence[JobState]) -> None:
        if any(not state.is_final for state in states):
            ensure_supervisor(self._state, queue, environment=self._environment, clock=self._clock)

    def _read_logs(self, job: Job, *, follow: bool) -> Iterator[str]:
        run_dir = RunDir(Path(job.run_dir))

        def find_log(attempt: int) -> Path:
            kept = run_dir.log(attempt)
            return kept if kept.exists() else scratch_log(Path(job.scratch), job.run_id, attempt)

        with closing(LocalQueue(self._state.queue)) as queue:
            looked_at_s = self._clock.monotonic_s()

            def read_progress() -> Progress:
                nonlocal looked_at_s
                now = _require(queue, job.run_id)
                if self._clock.monotonic_s() - looked_at_s >= _LOOK_AFTER_S:
                    looked_at_s = self._clock.monotonic_s()
                    self._look_after(queue, [now.state])
                return Progress(attempt=now.attempt, is_final=now.state.is_final)

            yield from read_log(find_log, read_progress, follow=follow, clock=self._clock)

    def _read_jobs(self, plan: LaunchPlan, spec: Path) -> list[NewJob]:
        # Entries are made and let go one at a time: a sweep may have 100,000.
        limits, submitted_at = _find_limits(plan), self._clock.now().isoformat()
        found = _read_spec(spec)
        sizes: dict[Resources, None] = {}
        jobs: list[NewJob] = []
        for index in found.indices():
            entry = found.entry(index)
            sizes[entry.resources] = None
            job = _describe(entry, index, spec=str(spec), plan=plan, limits=limits)
            jobs.append(replace(job, submitted_at=submitted_at))
        for resources in sizes:
            self._check_size(resources, limits)
        return jobs

    def _check_size(self, resources: Resources, limits: Limits) -> None:
        _check_nodes(resources)
        ask = Ask(resources.cpus, resources.memory_bytes, resources.gpus_per_node, resources.share_gpus)
        machine = read_machine(self._runner, with_gpus=ask.gpus > 0)
        misfit = explain_misfit(ask, machine, limits)
        if misfit is not None:
            raise ConfigError(misfit, hint="ask for less, or raise the limits under `local` in nexa.yaml")


def _require(queue: LocalQueue, run_id: str) -> Job:
    job = queue.find_runs([run_id]).get(run_id)
    if job is None:
        raise NotFound(f"run {run_id}: not in this machine's local queue", hint="its kept logs are in runs/<run>/logs")
    return job


def _check_nodes(resources: Resources) -> None:
    for key, found, allowed in (("nodes", resources.nodes, 1), ("spares", resources.spares, 0)):
        if found != allowed:
            raise ConfigError(
                f"resources.{key}: found {found}; allowed: {allowed}, because the local backend is one machine",
                hint="use a backend with several nodes",
            )


def _read_spec(spec: Path) -> JobSpec:
    from nexa_contracts.job import JobSpec

    try:
        text = spec.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"{spec}: no such file", hint="write the plan's files before it is submitted") from error
    return JobSpec.from_json(text, source=str(spec))


def _read_limits(local: LocalLimits) -> Limits:
    memory = None if local.memory is None else parse_size_bytes(local.memory)
    return Limits(cpus=local.cpus, memory_bytes=memory, gpus=local.gpus)


def _find_limits(plan: LaunchPlan) -> Limits:
    for file in plan.files:
        if file.path == LIMITS_FILE:
            return Limits(**json.loads(file.text))
    raise ConfigError(f"plan of {plan.submission}: no {LIMITS_FILE} in it; it was not rendered by the local backend")


def _describe(entry: SpecEntry, index: int, *, spec: str, plan: LaunchPlan, limits: Limits) -> NewJob:
    return NewJob(
        submission=str(Path(entry.run_dir).with_name(plan.submission)),
        spec=spec,
        idx=index,
        run_id=entry.run_id,
        run_dir=entry.run_dir,
        outcome=str(locate_outcome(Path(entry.manifests_dir), entry.run_id)),
        scratch=entry.scratch,
        cpus=entry.resources.cpus,
        memory_bytes=entry.resources.memory_bytes,
        gpus=entry.resources.gpus_per_node,
        share_gpus=entry.resources.share_gpus,
        walltime_s=entry.walltime_s,
        grace_s=entry.grace_s,
        max_retries=entry.max_retries,
        max_preemptions=entry.max_preemptions,
        max_time_outs=entry.max_time_outs,
        max_parallel=plan.max_parallel,
        limit_cpus=limits.cpus,
        limit_memory_bytes=limits.memory_bytes,
        limit_gpus=limits.gpus,
        secrets=tuple(sorted(entry.secrets)),
    )
