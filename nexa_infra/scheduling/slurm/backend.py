"""The Slurm backend: runs as jobs and job arrays of a cluster, which hold on to them whoever of us comes and goes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from nexa_contracts.clock import Clock
from nexa_contracts.errors import ConfigError, ExternalError, NotFound, StorageError
from nexa_contracts.states import JobState
from nexa_infra.scheduling.entry import locate_outcome
from nexa_infra.scheduling.lock import FileLock
from nexa_infra.scheduling.slurm.chunks import FOLDER, SPEC_NAME, find_chunks, list_chunks, list_submission
from nexa_infra.scheduling.slurm.client import SlurmClient, SlurmLimits
from nexa_infra.scheduling.slurm.submission import Submitter, how_to_go_on
from nexa_infra.storage.run_dir import RunDir

if TYPE_CHECKING:
    from nexa_contracts.job import JobHandle, LaunchPlan
    from nexa_contracts.resources import Resources
    from nexa_contracts.site import SiteConfig
    from nexa_infra.scheduling.backend import LaunchRequest
    from nexa_infra.scheduling.slurm.cancelling import Canceller
    from nexa_infra.scheduling.slurm.looker import Looker
    from nexa_infra.scheduling.slurm.looking import RunState

SLURMS_DEFAULT_ARRAY = 1001
"""MaxArraySize where the cluster does not say otherwise."""
_LOCK_WAIT_S = 120.0


class SlurmBackend:
    """Runs jobs on a Slurm cluster. What it knows stands in `runs/<submission>/slurm`, for everyone who sees it."""

    name = "slurm"

    def __init__(
        self, project_runs: Path, *, client: SlurmClient, environment: Mapping[str, str], clock: Clock
    ) -> None:
        """Make a backend for the runs of a project; nothing is asked or touched until it is used.

        `environment` is the launcher's own: secrets that jobs name are taken from it.
        """
        self._runs = project_runs.resolve()
        self._client = client
        self._environment = environment
        self._clock = clock

    def check_fits(self, resources: Resources, site: SiteConfig) -> None:
        """Judge whether a job of this size can ever run on the cluster.

        Raises:
            ConfigError: it cannot; the message says what it asks for and what there is.
            ExternalError: Slurm is not there, or does not answer.
        """
        from nexa_infra.scheduling.slurm.options import render_options
        from nexa_infra.scheduling.slurm.partitions import explain_misfit, resolve_partition

        slurm = resolve_partition(site.slurm, self._environment)
        whose = None
        if slurm is not site.slurm:
            whose = "the site file names no partition, and SBATCH_PARTITION names that one"
        try:
            render_options(resources, slurm, job_name="check", output="check", export=())
        except ConfigError as error:
            raise ConfigError(error.message, hint=error.hint or whose) from error
        misfit = explain_misfit(resources, slurm, self._client.list_partitions(without=slurm.exclude))
        if misfit is not None:
            is_unknown = misfit.startswith("slurm.partition:")
            hint = f"{'' if is_unknown else 'ask for less, or '}name another slurm.partition in the site file"
            raise ConfigError(misfit, hint=hint if whose is None else f"{hint}: {whose}")

    def plan(self, request: LaunchRequest, site: SiteConfig) -> LaunchPlan:
        """Return everything `submit` would do, as data; asks the cluster for its limits, and touches nothing.

        Raises:
            ConfigError: a value of the site or the resources is none that Slurm takes.
        """
        from nexa_contracts.job import LaunchPlan, PlannedFile
        from nexa_infra.scheduling.backend import render_spec
        from nexa_infra.scheduling.slurm.partitions import resolve_partition
        from nexa_infra.scheduling.slurm.planning import BATCH_NAME, Surroundings, plan_batch, render_batch
        from nexa_infra.scheduling.slurm.script import SCRIPT, SCRIPT_NAME

        spec = render_spec(request)
        limits = None if site.slurm.max_array_size else self._find_limits()
        around = Surroundings(
            folder=request.folder or self._runs / request.submission,
            site=resolve_partition(site.slurm, self._environment),
            max_array_size=site.slurm.max_array_size or (limits and limits.max_array_size) or SLURMS_DEFAULT_ARRAY,
            cluster=None if limits is None else limits.cluster,
            python=site.slurm.python or sys.executable,
            environment=self._environment,
        )
        batch = plan_batch(request, spec, around)
        return LaunchPlan(
            backend=self.name,
            launcher=request.launcher,
            submission=request.submission,
            job_count=len(request.entries),
            resources=request.resources,
            files=(
                PlannedFile(path=SPEC_NAME, text=spec),
                PlannedFile(path=SCRIPT_NAME, text=SCRIPT),
                PlannedFile(path=BATCH_NAME, text=render_batch(batch)),
            ),
            commands=tuple(
                ("sbatch", *chunk.options, str(around.folder / SCRIPT_NAME), *chunk.arguments) for chunk in batch.chunks
            ),
            max_parallel=request.max_parallel,
        )

    def submit(self, plan: LaunchPlan, directory: Path) -> tuple[JobHandle, ...]:
        """Hand over a plan whose files stand in `directory`, and return a handle per run, in index order.

        The job id in the handle of a run is empty while it waits for room under `slurm.max_submitted`.

        Raises:
            NotFound: the spec does not stand there.
            ConfigError: a named secret is set nowhere.
            StorageError: what is handed over cannot be written down, or another process hands it over.
            ExternalError: Slurm refused, or does not answer.
        """
        from nexa_contracts.job import JobHandle
        from nexa_infra.scheduling.slurm.planning import read_batch

        directory = directory.resolve()
        if not (directory / SPEC_NAME).is_file():
            raise NotFound(
                f"{directory / SPEC_NAME}: no such file", hint="write the plan's files before it is submitted"
            )
        batch = read_batch(directory)
        self._check_secrets(batch.secrets)
        top = self._runs / plan.submission
        with self._hold(top):
            written = {chunk.number: chunk for chunk in list_chunks(directory)}
            chunks = [written.get(chunk.number, chunk) for chunk in batch.chunks]
            earlier = [chunk for chunk in list_submission(top) if chunk.folder != directory]
            chunks = self._submitter(plan.submission).hand_over(
                chunks, earlier=earlier, max_submitted=batch.max_submitted
            )
        rows = sorted((index, run_id, chunk) for chunk in chunks for run_id, index in chunk.runs.items())
        return tuple(
            JobHandle(backend="slurm", job_id=chunk.job_of(run_id) or "", name=run_id) for _, run_id, chunk in rows
        )

    def hand_over_rest(self, submission: str) -> int:
        """Hand over what is left of a submission: chunks without room, or whose answer was lost; return their runs.

        Raises: as `submit`.
        """
        from nexa_infra.scheduling.slurm.planning import read_batch

        top = self._runs / submission
        handed = 0
        if not any(chunk.job_id is None for chunk in list_submission(top)):
            return handed
        with self._hold(top):
            every = list_submission(top)
            for folder in dict.fromkeys(chunk.folder for chunk in every if chunk.job_id is None):
                batch = read_batch(folder)
                self._check_secrets(batch.secrets)
                ours = [chunk for chunk in every if chunk.folder == folder and not self._looker.drop_if_ended(chunk)]
                earlier = [chunk for chunk in every if chunk.folder < folder]
                after = self._submitter(submission).hand_over(ours, earlier=earlier, max_submitted=batch.max_submitted)
                pairs = zip(ours, after, strict=True)
                handed += sum(len(new.runs) for old, new in pairs if old.job_id is None and new.job_id is not None)
        return handed

    def states(self, handles: Sequence[JobHandle]) -> dict[JobHandle, JobState]:
        """Return the state of every handle by one query; UNKNOWN where nothing is known.

        Raises:
            StorageError, ExternalError: what was handed over cannot be read, or Slurm does not answer.
        """
        chunks = find_chunks(self._runs, [handle.name for handle in handles])
        ours = {
            handle: chunks[handle.name]
            for handle in handles
            if handle.name in chunks and handle.job_id in ("", chunks[handle.name].job_of(handle.name))
        }
        found = self._looker.look({handle.name: chunk for handle, chunk in ours.items()})
        states = {handle: found[handle.name].state for handle in ours if handle.name in found}
        return {handle: states.get(handle, JobState.UNKNOWN) for handle in handles}

    def run_states(self, run_ids: Sequence[str], *, settles: bool = True) -> dict[str, RunState]:
        """Return what is known of runs by their ids; those that were never to be handed to Slurm are left out.

        Without `settles` nothing is written.

        Raises: as `states`.
        """
        return self._looker.look(find_chunks(self._runs, run_ids), settles=settles)

    def cancel(self, handles: Sequence[JobHandle]) -> None:
        """Ask for the end of the jobs and return at once; safe to repeat, and does nothing to an ended job.

        Raises: as `cancel_runs`.
        """
        self.cancel_runs([handle.name for handle in handles])

    def cancel_runs(self, run_ids: Sequence[str]) -> frozenset[str]:
        """Ask for the end of runs by their ids; return those that were handed to Slurm, or are to be.

        Raises:
            StorageError: the wish cannot be written down.
            ExternalError: Slurm does not answer, or the jobs are of another cluster or user; the wish stands all the
                same, `nexa watch` passes it on.
        """
        return self._canceller.cancel(run_ids)

    def pass_on_cancels(self, run_ids: Sequence[str]) -> None:
        """Tell Slurm again to end those of these runs that somebody asked to end and that have not ended.

        Raises: as `cancel_runs`.
        """
        self._canceller.pass_on(run_ids)

    def logs(self, handle: JobHandle, *, follow: bool = False) -> Iterator[str]:
        """Return the lines of a job's log over all its attempts; with `follow` until the run has an outcome.

        Raises: as `run_logs`.
        """
        return self.run_logs(handle.name, follow=follow)

    def run_logs(self, run_id: str, *, follow: bool = False) -> Iterator[str]:
        """Return the lines of a run's log over all its attempts; with `follow` until it has an outcome.

        Raises:
            NotFound: the run was never handed to Slurm.
            StorageError: what was handed over cannot be read.
        """
        from nexa_infra.scheduling.logs import read_log
        from nexa_infra.scheduling.slurm.following import Follower, find_scratch

        chunk = find_chunks(self._runs, [run_id]).get(run_id)
        if chunk is None:
            raise NotFound(f"run {run_id}: was not handed to slurm", hint=f"nexa status {run_id}")
        follower = Follower(
            RunDir(self._runs / run_id),
            locate_outcome(self._runs / "manifests", run_id),
            find_scratch(chunk, run_id),
            look=lambda: self.run_states([run_id]),
            clock=self._clock,
        )
        return read_log(follower.find_log, follower.read_progress, follow=follow, clock=self._clock)

    @cached_property
    def _looker(self) -> Looker:
        from nexa_infra.scheduling.slurm.looker import Looker  # 20 ms that whoever only submits need not pay

        return Looker(self._runs, client=self._client, environment=self._environment, clock=self._clock)

    @cached_property
    def _canceller(self) -> Canceller:
        from nexa_infra.scheduling.slurm.belonging import Home
        from nexa_infra.scheduling.slurm.cancelling import Canceller

        return Canceller(self._runs, self._client, self._looker, Home(self._client))

    def _find_limits(self) -> SlurmLimits | None:
        try:
            return self._client.read_limits()
        except ExternalError:  # a plan can be looked at anywhere; to submit it Slurm must answer
            return None

    def _check_secrets(self, names: Sequence[str]) -> None:
        missing = [name for name in names if not self._environment.get(name)]
        if missing:
            raise ConfigError(f"secrets: found {', '.join(missing)} set nowhere; allowed: set in this environment")

    def _submitter(self, submission: str) -> Submitter:
        return Submitter(self._client, self._clock, how_to_go_on(submission))

    @contextmanager
    def _hold(self, top: Path) -> Iterator[None]:
        with FileLock(top / FOLDER / ".lock") as lock:
            if not lock.acquire(wait_s=_LOCK_WAIT_S, clock=self._clock):
                raise StorageError(f"{top}: another process has been submitting it for {_LOCK_WAIT_S:g} s")
            yield
