"""A launch as a value: members, manifests, plan and evidence, judged before anything is written."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nexa_contracts import env
from nexa_contracts.cost import CostEstimate
from nexa_contracts.dataset import DatasetRef
from nexa_contracts.errors import ConfigError, MissingExtra
from nexa_contracts.job import LaunchPlan, SpecEntry
from nexa_contracts.resources import Resources
from nexa_contracts.run import CodeRecord, RunConfig, RunManifest
from nexa_contracts.sweep import SweepConfig
from nexa_contracts.units import parse_duration_s
from nexa_infra.launchers.launcher import Launcher
from nexa_infra.launchers.registry import select_launcher
from nexa_infra.operations.context import Context
from nexa_infra.operations.datasets import pin_dataset, resolve_datasets
from nexa_infra.operations.environment import job_environment, read_environment, user_and_host
from nexa_infra.operations.members import MadeOnDemand, Member, Survey, estimate_runs
from nexa_infra.operations.snapshot import CodeState, describe_snapshot, read_code
from nexa_infra.policies.review import Evidence, review
from nexa_infra.policies.verdict import Verdict
from nexa_infra.scheduling.backend import Backend, LaunchRequest

TRAIN_MODULE = "nexa_train.run"
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
    snapshots = {digest: describe_snapshot(digest, context.tiers, like=code.record) for digest in survey.snapshots}
    shown = len(members) if write or len(members) <= _SHOWN_WHOLE else _SHOWN_RUNS
    first = members[0].config
    request = LaunchRequest(
        submission=asked.submission,
        entries=_Entries(survey.indices[:shown], _entry_maker(context, asked, code.record)),
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
        asked=asked,
        code=code,
        snapshots=snapshots,
        datasets=datasets,
        estimate=estimate,
        plan=plan,
        verdict=verdict,
    )


def render_manifests(context: Context, prepared: Prepared) -> Iterator[RunManifest]:
    """Return the manifest of every member that has none yet, made one at a time."""
    now, author = context.clock.now(), user_and_host()
    environment = read_environment(context.environment, runner=context.runner)
    asked = prepared.asked
    return (
        RunManifest(
            run_id=member.run_id,
            sweep_id=asked.sweep_id,
            index=member.index,
            point=member.point,
            name=member.config.name,
            created_at=now,
            created_by=author,
            project=context.project_name,
            config=member.config,
            config_source=asked.source,
            overrides={key: str(value) for key, value in asked.overrides.items()},
            backend=prepared.plan.backend,
            launcher=prepared.plan.launcher,
            command=_command(member),
            code=prepared.code.record if member.snapshot is None else prepared.snapshots[member.snapshot],
            datasets=_datasets_of(member, prepared.datasets.values()),
            environment=environment,
            estimate=estimate_runs({member.config.resources: 1}, context.site),
            resumes=member.resumes,
        )
        for member in asked.members
        if not member.is_recorded
    )


def _pin(member: Member, datasets: dict[str, DatasetRef]) -> Member:
    config = pin_dataset(member.config, datasets)
    return member if config is member.config else replace(member, config=config)


def _datasets_of(member: Member, found: Iterable[DatasetRef]) -> tuple[DatasetRef, ...]:
    data = member.config.data
    return () if data is None else tuple({ref.label: ref for ref in found if ref.label == data.dataset}.values())


def _command(member: Member) -> tuple[str, ...]:
    config = member.config
    work = config.command or (sys.executable, "-m", TRAIN_MODULE)
    launcher = choose_launcher(config)
    return launcher.wrap(work, config.resources, run_id=member.run_id, max_restarts=config.max_rank_restarts)


def choose_launcher(config: RunConfig) -> Launcher:
    """Return how a run's processes start: as its config says, else torchrun for training in several processes.

    A command of one's own starts its own processes, and only on several nodes those that it cannot reach are ours.
    """
    resources = config.resources
    several = resources.world_size if config.command is None else resources.nodes
    return select_launcher(config.launcher or ("torchrun" if several > 1 else "python"))


class _Entries(Mapping[int, SpecEntry]):
    """Entries by array index, each made when it is asked for."""

    def __init__(self, indices: Sequence[int], make: Callable[[int], SpecEntry]) -> None:
        self._positions = {index: position for position, index in enumerate(indices)}
        self._make = make

    def __getitem__(self, index: int) -> SpecEntry:
        return self._make(self._positions[index])

    def __iter__(self) -> Iterator[int]:
        return iter(self._positions)

    def __len__(self) -> int:
        return len(self._positions)


def _entry_maker(context: Context, asked: Asked, now: CodeRecord) -> Callable[[int], SpecEntry]:
    """Return what makes the entry of the member at a position; what all members share is found once."""
    project, tiers = context.project, context.tiers
    inherited = job_environment(context.environment)

    def make(position: int) -> SpecEntry:
        member = asked.members[position]
        config = member.config
        code = project.snapshot(member.snapshot or now.snapshot)
        environment = {
            **inherited,
            "PYTHONPATH": _search_path(code, inherited.get("PYTHONPATH")),
            "PYTHONUNBUFFERED": "1",
            env.PROJECT_DIR: str(project.root),
            env.RESUME_FROM: member.resumes.run_id if member.resumes is not None else "",
            **({} if config.command is None else {env.RESUME_CHECKPOINT: ""}),  # the job entry finds it
            **choose_launcher(config).environment(config.resources),
            **config.env,
        }
        return SpecEntry(
            run_id=member.run_id,
            sweep_id=asked.sweep_id,
            point=member.point,
            run_dir=str(project.run(member.run_id)),
            manifests_dir=str(project.manifests),
            study=str(tiers.study(asked.sweep_id)) if asked.sweep_id is not None and asked.has_study else None,
            cwd=str(code),
            command=_command(member),
            environment=environment,
            secrets=config.secrets,
            scratch=str(tiers.scratch),
            durable=str(tiers.durable),
            shared=str(tiers.shared),
            walltime_s=config.resources.walltime_s,
            max_retries=config.max_retries,
            max_preemptions=config.max_preemptions,
            max_time_outs=config.max_time_outs,
            stall_s=None if config.stall_timeout is None else parse_duration_s(config.stall_timeout),
            resources=config.resources,
        )

    return make


def _search_path(code: Path, inherited: str | None) -> str:
    if os.pathsep in str(code):
        # PYTHONPATH has no way to quote one: the job would import the code as it is later, not its snapshot.
        raise ConfigError(f"{code}: found {os.pathsep!r} in the project's path; allowed: a path without it")
    return str(code) if not inherited else f"{code}:{inherited}"


def _require_extras(*, trains_here: bool, has_study: bool) -> None:
    # find_spec on a top-level name imports nothing.
    if trains_here and importlib.util.find_spec("torch") is None:
        raise MissingExtra("train", package="torch", needed_for="training on this machine")
    if has_study and importlib.util.find_spec("optuna") is None:
        raise MissingExtra("search", package="optuna", needed_for="a tpe search or a pruner")
