"""Launch one training job, or a sweep: plan, judge, write, submit.

Everything is judged before anything is written. Manifests come first, so that an id is taken by whoever creates its
file; a crash between manifests and submission leaves runs that are planned and not submitted, which `resume` submits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TypeVar

from nexa_contracts import ids
from nexa_contracts.config import Override, load_config
from nexa_contracts.cost import CostEstimate
from nexa_contracts.errors import AlreadyExists, ConfigError
from nexa_contracts.job import JobHandle, LaunchPlan, SubmissionRecord
from nexa_contracts.run import RunConfig
from nexa_contracts.sweep import SweepConfig, SweepManifest
from nexa_contracts.yaml_text import read_yaml
from nexa_infra.operations.backends import create_backend
from nexa_infra.operations.context import Context, open_context
from nexa_infra.operations.datasets import pin_dataset
from nexa_infra.operations.live import live_states, newest_members
from nexa_infra.operations.members import Member, expand_sweep, survey_members
from nexa_infra.operations.prepare import Asked, Prepared, check_sizes, prepare, render_manifests
from nexa_infra.operations.resume import find_unfinished, hold_sweep, link_to_run
from nexa_infra.operations.snapshot import unpack_snapshot, write_snapshot
from nexa_infra.operations.unsubmitted import check_unsettled, hold_launch
from nexa_infra.scheduling.backend import Backend
from nexa_infra.scheduling.sweep import define_sweep, load_sweep
from nexa_infra.storage.atomic import create_file, replace_file
from nexa_infra.storage.manifests import read_sweep_manifest, record_manifests, record_sweep

ResultT = TypeVar("ResultT")
_ID_TRIES = 5
_WRITERS = 16
_PIECE = 256
"""Configs that are held at a time while they are written."""


_Sweep = tuple[SweepConfig, RunConfig, int]


@dataclass(frozen=True, slots=True)
class _How:
    backend: str | None
    dry_run: bool
    submit: bool = True
    sweep: _Sweep | None = None
    directory: Path | None = None


@dataclass(frozen=True, slots=True)
class Launched:
    """What a launch did, or with a dry run would do."""

    submission: str
    run_ids: tuple[str, ...]
    plan: LaunchPlan
    estimate: CostEstimate
    warnings: tuple[str, ...]
    handles: tuple[JobHandle, ...]
    """Empty when nothing was submitted."""

    @property
    def job_count(self) -> int:
        """Number of jobs submitted, or that would be."""
        return self.plan.job_count

    @property
    def is_submitted(self) -> bool:
        """Whether a backend holds the jobs."""
        return bool(self.handles)


def launch_training_job(  # noqa: PLR0913 - each keyword is an option of the command
    config: Path,
    *,
    overrides: Sequence[Override] = (),
    backend: str | None = None,
    resume: str | None = None,
    snapshot: str | None = None,
    dry_run: bool = False,
    context: Context | None = None,
) -> Launched:
    """Launch the run in a config file and return what was submitted; does not wait for it to end.

    `resume` names a run whose newest verified checkpoint the new run goes on from; `snapshot` is the digest of a
    recorded code snapshot to run instead of the code as it is now.

    Raises:
        ConfigError, NotFound: the request is wrong, one line a key.
        PolicyRefused: a policy says no.
        StorageError: a tier is missing, full or read-only, or a dataset is not the one that was registered.
    """
    context = context or open_context()
    run_config = load_run_config(config, overrides)
    resumes = link_to_run(context, resume, run_config) if resume is not None else None

    def build(stamp: str) -> Launched:
        member = Member(run_id=ids.run_id(stamp), config=run_config, resumes=resumes, snapshot=snapshot)
        asked = Asked(
            submission=member.run_id,
            sweep_id=None,
            members=[member],
            source=str(config),
            overrides={item.key: item.text for item in overrides},
        )
        return _launch(context, asked, _How(backend, dry_run=dry_run))

    return _with_free_id(context, build)


def launch_sweep(
    path: Path,
    *,
    overrides: Sequence[Override] = (),
    backend: str | None = None,
    dry_run: bool = False,
    submit: bool = True,
    context: Context | None = None,
) -> Launched:
    """Launch every point of a sweep file and return what was submitted; does not wait for the runs to end.

    With `submit=False` everything is written and nothing handed over: `resume_sweep` does that later.

    Raises: as `launch_training_job`.
    """
    context = context or open_context()
    config, base, definition = load_sweep(path, overrides)

    def build(stamp: str) -> Launched:
        members = expand_sweep(definition, base, stamp=stamp, tags=config.tags)
        asked = Asked(
            submission=ids.sweep_id(stamp),
            sweep_id=ids.sweep_id(stamp),
            members=members,
            source=str(path),
            overrides={item.key: item.text for item in overrides},
            max_parallel=config.max_parallel,
            sweep=config,
        )
        how = _How(backend, dry_run=dry_run, submit=submit, sweep=(config, base, len(definition)))
        return _launch(context, asked, how)

    return _with_free_id(context, build)


def resume_sweep(
    sweep_id: str, *, backend: str | None = None, dry_run: bool = False, context: Context | None = None
) -> Launched | None:
    """Submit the members of a sweep that are missing or failed, and no other; None when there are none.

    A failed member gets a new run with the same index and point, from its newest verified checkpoint. Of two calls at
    once, the second waits, and then finds what the first has submitted.

    Raises:
        NotFound: no such sweep.
        As `launch_training_job`.
    """
    context = context or open_context()
    manifest = read_sweep_manifest(context.project, sweep_id)
    definition = define_sweep(manifest.config, source=manifest.config_source)
    live = live_states(context.environment, clock=context.clock)

    def build(stamp: str) -> Launched | None:
        members = find_unfinished(context, manifest, definition, live=live, stamp=stamp)
        if not members:
            return None
        asked = Asked(
            submission=sweep_id,
            sweep_id=sweep_id,
            members=members,
            source=manifest.config_source,
            overrides={},
            max_parallel=manifest.max_parallel,
        )
        directory = context.project.run(sweep_id) / f"resume-{stamp}"
        return _launch(context, asked, _How(backend, dry_run=dry_run, directory=directory))

    with nullcontext() if dry_run else hold_sweep(context, sweep_id):
        newest = max(newest_members(context.project, sweep_id).values(), default=None)
        return _with_free_id(context, build, after=newest)


def load_run_config(path: Path, overrides: Sequence[Override]) -> RunConfig:
    """Return the run config in a YAML file, or in the `config.json` of an earlier run.

    Raises:
        ConfigError, NotFound: as `load_config`; a sweep file is named as one.
    """
    document = read_yaml(path)
    if isinstance(document.data, dict) and "axes" in document.data:
        raise ConfigError(f"{path}: found a sweep (it has axes); allowed: a run config", hint=f"nexa sweep {path}")
    return load_config(path, RunConfig, overrides=overrides)


def _launch(context: Context, asked: Asked, how: _How) -> Launched:
    chosen = create_backend(how.backend or context.site.backend, context)
    survey = survey_members(asked.members)
    if not how.dry_run:
        context.require_tiers()
        check_sizes(context, chosen, survey.sizes)
    prepared = prepare(context, chosen, asked, survey=survey, write=not how.dry_run)
    handles: tuple[JobHandle, ...] = ()
    if not how.dry_run:
        with hold_launch(context, asked.submission) if asked.sweep_id is None else nullcontext():
            handles = _write_and_submit(context, chosen, prepared, how)
    return Launched(
        submission=asked.submission,
        run_ids=survey.run_ids,
        plan=prepared.plan,
        estimate=prepared.estimate,
        warnings=tuple(finding.line() for finding in prepared.verdict.warnings),
        handles=handles,
    )


def _write_and_submit(context: Context, backend: Backend, prepared: Prepared, how: _How) -> tuple[JobHandle, ...]:
    submission = prepared.asked.submission
    folder = how.directory or context.project.run(submission)
    _write(context, prepared, folder, how.sweep)
    if not how.submit:
        return ()
    if prepared.asked.sweep_id is None:
        check_unsettled(context.project, submission)
    handles = backend.submit(prepared.plan, folder)
    record = SubmissionRecord(submission=submission, submitted_at=context.clock.now(), handles=handles)
    replace_file(folder / "submission.json", record.to_json().encode())
    return handles


def _write(context: Context, prepared: Prepared, folder: Path, sweep: _Sweep | None) -> None:
    asked, project = prepared.asked, context.project
    if any(member.snapshot is None for member in asked.members):
        write_snapshot(prepared.code, project, context.tiers)
    for digest in prepared.snapshots:
        unpack_snapshot(digest, project, context.tiers)
    if sweep is not None:
        record_sweep(project, _sweep_manifest(context, prepared, sweep))
    record_manifests(project, render_manifests(context, prepared))
    _write_configs(context, asked.members)
    for file in prepared.plan.files:
        create_file(folder / file.path, file.text.encode(), mode=file.mode)
    create_file(folder / "plan.json", _plan_text(prepared.plan))


def _write_configs(context: Context, members: Sequence[Member]) -> None:
    # Flushing is waiting, and waiting goes side by side: 1,000 members take seconds instead of a minute.
    def write(member: Member) -> None:
        replace_file(context.project.config(member.run_id), member.config.to_json().encode())

    remaining = iter(members)
    with ThreadPoolExecutor(min(_WRITERS, len(members))) as pool:
        while piece := list(islice(remaining, _PIECE)):
            for _ in pool.map(write, piece):
                pass


def _sweep_manifest(context: Context, prepared: Prepared, sweep: _Sweep) -> SweepManifest:
    asked, (config, base, count) = prepared.asked, sweep
    return SweepManifest(
        sweep_id=asked.submission,
        name=config.name,
        created_at=context.clock.now(),
        config=config,
        base_config=pin_dataset(base, prepared.datasets),  # what is missing later trains on the same version
        config_source=asked.source,
        count=count,
        max_parallel=config.max_parallel,
    )


def _plan_text(plan: LaunchPlan) -> bytes:
    # The files stand beside it; writing their text twice would double what a sweep of thousands takes.
    return plan.model_copy(update={"files": ()}).to_json().encode()


def _with_free_id(context: Context, build: Callable[[str], ResultT], *, after: str | None = None) -> ResultT:
    # Two launches in one second differ by four random characters; whoever creates the manifest second tries again.
    # Of a member's runs the one with the highest id counts, so a new one comes after them whatever the clock says.
    earliest = None if after is None else ids.stamp_time(after) + timedelta(seconds=1)

    def try_once() -> ResultT:
        now = context.clock.now()
        return build(ids.create_stamp(now if earliest is None else max(now, earliest)))

    for _ in range(_ID_TRIES - 1):
        try:
            return try_once()
        except AlreadyExists:
            continue
    return try_once()
