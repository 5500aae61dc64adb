"""A launch as a value: members, manifests, plan and evidence, judged before anything is written."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from nexa_contracts.cost import CostEstimate
from nexa_contracts.dataset import DatasetRef
from nexa_contracts.errors import ConfigError, MissingExtra
from nexa_contracts.job import LaunchPlan
from nexa_contracts.resources import Resources
from nexa_contracts.run import CodeRecord, RunManifest
from nexa_contracts.sweep import SweepConfig
from nexa_infra.operations.context import Context
from nexa_infra.operations.datasets import pin_dataset, resolve_datasets
from nexa_infra.operations.entries import Common, Entries, choose_launcher, find_python, render_command
from nexa_infra.operations.environment import read_environment, user_and_host
from nexa_infra.operations.members import MadeOnDemand, Member, Survey, estimate_runs
from nexa_infra.operations.snapshot import CodeState, describe_snapshot, read_code
from nexa_infra.policies.review import Evidence, review
from nexa_infra.policies.verdict import Verdict
from nexa_infra.scheduling.backend import Backend, LaunchRequest

_SHOWN_WHOLE = 1_000
"""Most runs of which a dry run renders every one; of more it shows the first."""
_SHOWN_RUNS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a launch was asked for, before anything about the world is known."""

    submission: str
    sweep_id: str | None
    members: Sequence[Member]
    source: str
    overrides: dict[str, object]
    max_parallel: int | None = None
    sweep: SweepConfig | None = None
    """The sweep file, when this launch records it."""
    has_study: bool = False
    """Whether the runs are trials of a study."""
    folder: Path | None = None
    """Where its files stand; None: `runs/<submission>`, of which nothing exists yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Everything a launch would do."""

    asked: Asked
    code: CodeState
    snapshots: dict[str, CodeRecord]
    """Of the members that run a recorded snapshot and not the code as it is now, by its digest."""
    datasets: dict[str, DatasetRef]
    estimate: CostEstimate
    plan: LaunchPlan
    verdict: Verdict


def check_sizes(context: Context, backend: Backend, sizes: Iterable[Resources]) -> None:
    """Return if jobs of all these sizes can ever run on a backend.

    Raises:
        ConfigError: some cannot; one line for each reason.
        ExternalError: whoever knows what there is does not answer.
    """
    problems: dict[str, ConfigError] = {}
    for resources in sizes:
        try:
            backend.check_fits(resources, context.site)
        except ConfigError as error:
            problems.setdefault(error.message, error)
    if problems:
        raise ConfigError("\n".join(problems), hint=next(iter(problems.values())).hint)


def prepare(context: Context, backend: Backend, asked: Asked, *, survey: Survey, write: bool) -> Prepared:
    """Return a launch as a value; with `write`, built-in datasets it names are made first, and nothing else.

    Its members name the version of each dataset and not only the dataset. Without `write` the plan of a large sweep
    holds its first runs only.

    Raises:
        ConfigError: the jobs can never run on this backend.
        NotFound, DigestMismatch: a dataset is not there, or not the one that was registered.
        EvidenceMissing: a recorded code snapshot is not on durable.
        PolicyRefused: a policy says no.
        MissingExtra: the training stack is not installed on this machine.
    """
    _require_extras(trains_here=survey.trains and backend.name == "local", has_study=asked.has_study)
    datasets = resolve_datasets(context, survey.datasets, write=write)
    members = asked.members
    asked = replace(asked, members=MadeOnDemand(len(members), lambda position: _pin(members[position], datasets)))
    tiers = context.tiers
    code = read_code(context.project.root, runner=context.runner, without=(tiers.scratch, tiers.durable, tiers.shared))
    snapshots = {digest: describe_snapshot(digest, tiers, like=code.record) for digest in survey.snapshots}
    shown = len(members) if write or len(members) <= _SHOWN_WHOLE else _SHOWN_RUNS
    first, snapshot = members[0].config, code.record.snapshot
    common = Common(sweep_id=asked.sweep_id, has_study=asked.has_study, snapshot=snapshot, backend=backend.name)
    request = LaunchRequest(
        submission=asked.submission,
        entries=Entries(context, asked.members, indices=survey.indices[:shown], common=common),
        resources=first.resources,
        launcher=choose_launcher(first).name,
        max_parallel=asked.max_parallel,
        folder=asked.folder,
        indices=survey.indices,
    )
    plan = backend.plan(request, context.site)
    plan = plan.model_copy(update={"job_count": len(members), "left_out": len(members) - shown})
    estimate = estimate_runs(survey.sizes, context.site)
    evidence = Evidence(
        configs=survey.configs, code=code.record, estimate=estimate, environment=context.environment, sweep=asked.sweep
    )
    verdict = review(plan, evidence)
    verdict.enforce()
    return Prepared(
        asked=asked, code=code, snapshots=snapshots, datasets=datasets, estimate=estimate, plan=plan, verdict=verdict
    )


def render_manifests(context: Context, prepared: Prepared) -> Iterator[RunManifest]:
    """Yield the manifest of every member that has none yet."""
    now, author = context.clock.now(), user_and_host()
    environment = read_environment(context.environment, runner=context.runner)
    asked, python = prepared.asked, find_python(context, prepared.plan.backend)
    estimate = cache(lambda resources: estimate_runs({resources: 1}, context.site))
    first: RunManifest | None = None
    for member in asked.members:
        if member.is_recorded:
            continue
        config, code = member.config, prepared.code.record
        own: dict[str, Any] = {
            "run_id": member.run_id,
            "index": member.index,
            "point": member.point,
            "name": config.name,
            "config": config,
            "command": render_command(member, python),
            "code": code if member.snapshot is None else prepared.snapshots[member.snapshot],
            "datasets": _datasets_of(member, prepared.datasets.values()),
            "estimate": estimate(config.resources),
            "resumes": member.resumes,
        }
        if first is None:
            first = RunManifest(
                sweep_id=asked.sweep_id,
                created_at=now,
                created_by=author,
                project=context.project_name,
                config_source=asked.source,
                overrides={key: str(value) for key, value in asked.overrides.items()},
                backend=prepared.plan.backend,
                launcher=prepared.plan.launcher,
                environment=environment,
                **own,
            )
        yield first.model_copy(update=own)  # what they share is judged once


def _pin(member: Member, datasets: dict[str, DatasetRef]) -> Member:
    config = pin_dataset(member.config, datasets)
    return member if config is member.config else replace(member, config=config)


def _datasets_of(member: Member, found: Iterable[DatasetRef]) -> tuple[DatasetRef, ...]:
    data = member.config.data
    return () if data is None else tuple({ref.label: ref for ref in found if ref.label == data.dataset}.values())


def _require_extras(*, trains_here: bool, has_study: bool) -> None:
    # find_spec on a top-level name imports nothing.
    if trains_here and importlib.util.find_spec("torch") is None:
        raise MissingExtra("train", package="torch", needed_for="training on this machine")
    if has_study and importlib.util.find_spec("optuna") is None:
        raise MissingExtra("search", package="optuna", needed_for="a tpe search or a pruner")
