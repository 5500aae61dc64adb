"""A launch as a value: members, manifests, plan and evidence, judged before anything is written."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nexa_contracts import env
from nexa_contracts.cost import CostEstimate
from nexa_contracts.dataset import DatasetRef
from nexa_contracts.errors import ConfigError, MissingExtra
from nexa_contracts.job import LaunchPlan, SpecEntry
from nexa_contracts.run import CodeRecord, EnvironmentRecord, RunConfig, RunManifest
from nexa_contracts.sweep import SweepConfig
from nexa_infra.launchers.launcher import Launcher
from nexa_infra.launchers.registry import select_launcher
from nexa_infra.operations.context import Context
from nexa_infra.operations.datasets import pin_dataset, resolve_datasets
from nexa_infra.operations.environment import job_environment, read_environment, user_and_host
from nexa_infra.operations.members import Member, estimate_members
from nexa_infra.operations.snapshot import CodeState, describe_snapshot, read_code
from nexa_infra.policies.review import Evidence, review
from nexa_infra.policies.verdict import Verdict
from nexa_infra.scheduling.backend import Backend, LaunchRequest

TRAIN_MODULE = "nexa_train.run"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Everything a launch would do."""

    asked: Asked
    code: CodeState
    snapshots: dict[str, CodeRecord]
    """Of the members that run a recorded snapshot and not the code as it is now, by its digest."""
    datasets: dict[str, DatasetRef]
    environment: EnvironmentRecord
    estimate: CostEstimate
    plan: LaunchPlan
    verdict: Verdict


def prepare(context: Context, backend: Backend, asked: Asked, *, write: bool) -> Prepared:
    """Return a launch as a value; with `write`, built-in datasets it names are made first, and nothing else.

    Its members name the version of each dataset and not only the dataset.

    Raises:
        ConfigError: the jobs can never run on this backend.
        NotFound, DigestMismatch: a dataset is not there, or not the one that was registered.
        EvidenceMissing: a recorded code snapshot is not on durable.
        PolicyRefused: a policy says no.
        MissingExtra: the training stack is not installed on this machine.
    """
    configs = [member.config for member in asked.members]
    if backend.name == "local":
        _require_stack(asked.members)
    datasets = resolve_datasets(context, configs, write=write)
    asked = replace(asked, members=[_pin(member, datasets) for member in asked.members])
    tiers = context.tiers
    code = read_code(context.project.root, runner=context.runner, without=(tiers.scratch, tiers.durable, tiers.shared))
    recorded = dict.fromkeys(member.snapshot for member in asked.members if member.snapshot is not None)
    snapshots = {digest: describe_snapshot(digest, context.tiers, like=code.record) for digest in recorded}
    request = LaunchRequest(
        submission=asked.submission,
        entries={member.index or 0: _entry(context, asked, member, code.record) for member in asked.members},
        resources=configs[0].resources,
        launcher=choose_launcher(configs[0]).name,
        max_parallel=asked.max_parallel,
    )
    plan = backend.plan(request, context.site)
    estimate = estimate_members(asked.members, context.site)
    distinct = list({config.model_dump_json(include={"secrets", "params"}): config for config in configs}.values())
    evidence = Evidence(
        configs=distinct, code=code.record, estimate=estimate, environment=context.environment, sweep=asked.sweep
    )
    verdict = review(plan, evidence)
    verdict.enforce()
    environment = read_environment(context.environment, runner=context.runner)
    return Prepared(
        asked=asked,
        code=code,
        snapshots=snapshots,
        datasets=datasets,
        environment=environment,
        estimate=estimate,
        plan=plan,
        verdict=verdict,
    )


def render_manifests(context: Context, prepared: Prepared) -> list[RunManifest]:
    """Return the manifest of every member that has none yet."""
    now, author = context.clock.now(), user_and_host()
    asked = prepared.asked
    return [
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
            environment=prepared.environment,
            estimate=estimate_members([member], context.site),
            resumes=member.resumes,
        )
        for member in asked.members
        if not member.is_recorded
    ]


def _pin(member: Member, datasets: dict[str, DatasetRef]) -> Member:
    config = pin_dataset(member.config, datasets)
    return member if config is member.config else replace(member, config=config)


def _datasets_of(member: Member, found: Iterable[DatasetRef]) -> tuple[DatasetRef, ...]:
    data = member.config.data
    return () if data is None else tuple({ref.label: ref for ref in found if ref.label == data.dataset}.values())


def _command(member: Member) -> tuple[str, ...]:
    config = member.config
    work = config.command or (sys.executable, "-m", TRAIN_MODULE)
    return choose_launcher(config).wrap(work, config.resources, run_id=member.run_id)


def choose_launcher(config: RunConfig) -> Launcher:
    """Return how a run's processes start: torchrun for training on several GPUs, else one process as it is.

    A command of one's own starts its own processes.
    """
    several = config.command is None and config.resources.world_size > 1
    return select_launcher("torchrun" if several else "python")


def _entry(context: Context, asked: Asked, member: Member, now: CodeRecord) -> SpecEntry:
    config, project, tiers = member.config, context.project, context.tiers
    code = project.snapshot(member.snapshot or now.snapshot)
    environment = job_environment(context.environment)
    environment |= {
        "PYTHONPATH": _search_path(code, environment.get("PYTHONPATH")),
        "PYTHONUNBUFFERED": "1",
        env.PROJECT_DIR: str(project.root),
        env.RESUME_FROM: member.resumes.run_id if member.resumes is not None else "",
        **choose_launcher(config).environment(config.resources),
        **config.env,
    }
    return SpecEntry(
        run_id=member.run_id,
        sweep_id=asked.sweep_id,
        point=member.point,
        run_dir=str(project.run(member.run_id)),
        manifests_dir=str(project.manifests),
        cwd=str(code),
        command=_command(member),
        environment=environment,
        secrets=config.secrets,
        scratch=str(tiers.scratch),
        durable=str(tiers.durable),
        shared=str(tiers.shared),
        walltime_s=config.resources.walltime_s,
        max_retries=config.max_retries,
        resources=config.resources,
    )


def _search_path(code: Path, inherited: str | None) -> str:
    if os.pathsep in str(code):
        # PYTHONPATH has no way to quote one: the job would import the code as it is later, not its snapshot.
        raise ConfigError(f"{code}: found {os.pathsep!r} in the project's path; allowed: a path without it")
    return str(code) if not inherited else f"{code}:{inherited}"


def _require_stack(members: Sequence[Member]) -> None:
    # find_spec on a top-level name imports nothing.
    if any(member.config.train is not None for member in members) and importlib.util.find_spec("torch") is None:
        raise MissingExtra("train", package="torch", needed_for="training on this machine")
