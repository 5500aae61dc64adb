"""A launch carried out: plan, judge, write, submit.

Everything is judged before anything is written. Manifests come first, so that an id is taken by whoever creates its
file; a crash between manifests and submission leaves runs that are planned and not submitted, which `resume` submits.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from nexa_contracts import ids
from nexa_contracts.cost import CostEstimate
from nexa_contracts.errors import AlreadyExists
from nexa_contracts.job import JobHandle, LaunchPlan, SubmissionRecord
from nexa_contracts.run import RunConfig
from nexa_contracts.sweep import SweepConfig, SweepManifest
from nexa_infra.health.ledger import Quarantine
from nexa_infra.operations.backends import create_backend
from nexa_infra.operations.context import Context
from nexa_infra.operations.datasets import pin_dataset
from nexa_infra.operations.members import survey_members
from nexa_infra.operations.node_health import keep_out
from nexa_infra.operations.prepare import Asked, Prepared, check_sizes, prepare, render_manifests
from nexa_infra.operations.snapshot import unpack_snapshot, write_snapshot
from nexa_infra.operations.sweep_lock import hold_sweep
from nexa_infra.operations.unsubmitted import check_unsettled, hold_launch
from nexa_infra.scheduling.backend import Backend
from nexa_infra.storage.atomic import create_file, replace_file
from nexa_infra.storage.manifests import record_manifests, record_sweep

ResultT = TypeVar("ResultT")
_ID_TRIES = 5


@dataclass(frozen=True, slots=True)
class NewSweep:
    """What a launch records of a sweep."""

    config: SweepConfig
    base: RunConfig
    count: int


@dataclass(frozen=True, slots=True)
class How:
    """Where a launch goes, and how far."""

    backend: str
    dry_run: bool
    submit: bool = True
    sweep: NewSweep | None = None
    """None: a single run, or a sweep that is on record."""


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
    study: Path | None = None
    """Journal of the study whose trials the runs are."""
    kept_out: tuple[Quarantine, ...] = ()
    """Nodes that get none of it, because they are under quarantine."""

    @property
    def job_count(self) -> int:
        """Number of jobs submitted, or that would be."""
        return self.plan.job_count

    @property
    def is_submitted(self) -> bool:
        """Whether a backend holds the jobs."""
        return bool(self.handles)


def carry_out(context: Context, asked: Asked, how: How) -> Launched:
    """Plan and judge what is asked, and unless it is a dry run write it and hand it over.

    Raises:
        ConfigError, NotFound, PolicyRefused, StorageError, ExternalError: as `launch_training_job` says.
    """
    chosen = create_backend(how.backend, context)
    context, kept_out = keep_out(context) if how.backend == "slurm" else (context, ())
    survey = survey_members(asked.members)
    asked = replace(asked, members=survey.members)
    if not how.dry_run:
        context.require_tiers()
        check_sizes(context, chosen, survey.sizes)
    prepared = prepare(context, chosen, asked, survey=survey, write=not how.dry_run)
    handles: tuple[JobHandle, ...] = ()
    if not how.dry_run:
        hold = hold_launch if asked.sweep_id is None else hold_sweep
        with hold(context, asked.submission) if asked.folder is None else nullcontext():  # a resumption is held
            handles = _write_and_submit(context, chosen, prepared, how)
    return Launched(
        submission=asked.submission,
        run_ids=survey.run_ids,
        plan=prepared.plan,
        estimate=prepared.estimate,
        warnings=tuple(finding.line() for finding in prepared.verdict.warnings),
        handles=handles,
        kept_out=kept_out,
        study=context.tiers.study(asked.sweep_id) if asked.has_study and asked.sweep_id is not None else None,
    )


def with_free_id(context: Context, build: Callable[[str], ResultT], *, after: str | None = None) -> ResultT:
    """Return what `build` makes of a stamp that nobody has taken; `after` names a run that its ids shall sort after."""
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


def _write_and_submit(context: Context, backend: Backend, prepared: Prepared, how: How) -> tuple[JobHandle, ...]:
    submission = prepared.asked.submission
    folder = prepared.asked.folder or context.project.run(submission)
    _write(context, prepared, folder, how.sweep)
    if not how.submit:
        return ()
    if prepared.asked.sweep_id is None:
        check_unsettled(context.project, submission)
    handles = backend.submit(prepared.plan, folder)
    record = SubmissionRecord(submission=submission, submitted_at=context.clock.now(), handles=handles)
    replace_file(folder / "submission.json", record.to_json().encode())
    return handles


def _write(context: Context, prepared: Prepared, folder: Path, sweep: NewSweep | None) -> None:
    asked, project = prepared.asked, context.project
    if any(member.snapshot is None for member in asked.members):
        write_snapshot(prepared.code, project, context.tiers, taken_for=asked.submission)
    for digest in prepared.snapshots:
        unpack_snapshot(digest, project, context.tiers)
    if sweep is not None:
        record_sweep(project, _sweep_manifest(context, prepared, sweep))
    record_manifests(project, render_manifests(context, prepared))
    for file in prepared.plan.files:
        create_file(folder / file.path, file.text.encode(), mode=file.mode)
    create_file(folder / "plan.json", _plan_text(prepared.plan))


def _sweep_manifest(context: Context, prepared: Prepared, sweep: NewSweep) -> SweepManifest:
    asked, config = prepared.asked, sweep.config
    return SweepManifest(
        sweep_id=asked.submission,
        name=config.name,
        created_at=context.clock.now(),
        config=config,
        base_config=pin_dataset(sweep.base, prepared.datasets),  # what is missing later trains on the same version
        config_source=asked.source,
        count=sweep.count,
        max_parallel=config.max_parallel,
    )


def _plan_text(plan: LaunchPlan) -> bytes:
    # The files stand beside it; writing their text twice would double what a sweep of thousands takes.
    return plan.model_copy(update={"files": ()}).to_json().encode()
