"""The entries of a spec: what a job entry needs to know of each run of a launch, made when it is asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nexa_contracts import env
from nexa_contracts.errors import ConfigError
from nexa_contracts.job import SpecEntry
from nexa_contracts.run import RunConfig
from nexa_contracts.units import parse_duration_s
from nexa_infra.launchers.launcher import Launcher
from nexa_infra.launchers.registry import select_launcher
from nexa_infra.operations.context import Context
from nexa_infra.operations.environment import job_environment
from nexa_infra.operations.members import Member
from nexa_infra.operations.node_health import HealthPlanner
from nexa_infra.scheduling.points import READ_BY_PROGRAMS

TRAIN_MODULE = "nexa_train.run"
_select_launcher = cache(select_launcher)


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What the runs of a launch have in common."""

    sweep_id: str | None
    has_study: bool
    snapshot: str
    """Digest of the code as it is now, which members without one of their own run."""
    backend: str


class Entries(Mapping[int, SpecEntry]):
    """Entries by array index. One that differs from the last in little is made from it, in a tenth of the time."""

    def __init__(self, context: Context, members: Sequence[Member], *, indices: Sequence[int], common: Common) -> None:
        """`indices` are those of the first members, in their order."""
        self._context = context
        self._members = members
        self._common = common
        self._positions = {index: position for position, index in enumerate(indices)}
        self._python = find_python(context, common.backend)
        self._planner = HealthPlanner(context, common.backend)
        self._inherited = job_environment(context.environment)
        self._last: tuple[Member, SpecEntry] | None = None

    def __getitem__(self, index: int) -> SpecEntry:
        member = self._members[self._positions[index]]
        if self._last is None or not _are_alike(member, self._last[0]):
            self._last = member, self._make(member)
            return self._last[1]
        own = {
            "run_id": member.run_id,
            "point": member.point,
            "run_dir": str(self._context.project.run(member.run_id)),
            "command": render_command(member, self._python),
        }
        return self._last[1].model_copy(update=own)

    def __iter__(self) -> Iterator[int]:
        return iter(self._positions)

    def __len__(self) -> int:
        return len(self._positions)

    def _make(self, member: Member) -> SpecEntry:
        project, tiers, common, config = self._context.project, self._context.tiers, self._common, member.config
        code = project.snapshot(member.snapshot or common.snapshot)
        has_study = common.sweep_id is not None and common.has_study
        return SpecEntry(
            run_id=member.run_id,
            sweep_id=common.sweep_id,
            point=member.point,
            run_dir=str(project.run(member.run_id)),
            manifests_dir=str(project.manifests),
            study=str(tiers.study(common.sweep_id)) if common.sweep_id is not None and has_study else None,
            cwd=str(code),
            command=render_command(member, self._python),
            environment=self._describe_environment(member, code),
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
            health=self._planner.plan(config, launcher=choose_launcher(config).name, code=code),
        )

    def _describe_environment(self, member: Member, code: Path) -> dict[str, str]:
        config = member.config
        return {
            **self._inherited,
            "PYTHONPATH": _search_path(code, self._inherited.get("PYTHONPATH")),
            "PYTHONUNBUFFERED": "1",
            env.PROJECT_DIR: str(self._context.project.root),
            env.RESUME_FROM: member.resumes.run_id if member.resumes is not None else "",
            **({} if config.command is None else {env.RESUME_CHECKPOINT: ""}),  # the job entry finds it
            **choose_launcher(config).environment(config.resources),
            **config.env,
        }


def find_python(context: Context, backend: str) -> str:
    """Return the interpreter that our own modules run in where the jobs run."""
    return (context.site.slurm.python if backend == "slurm" else None) or sys.executable


def render_command(member: Member, python: str) -> tuple[str, ...]:
    """Return the argument list of a run's program and what starts it; `python` runs our own modules."""
    config = member.config
    work = config.command or (python, "-m", TRAIN_MODULE)
    launcher = choose_launcher(config, python=python)
    return launcher.wrap(work, config.resources, run_id=member.run_id, max_restarts=config.max_rank_restarts)


def choose_launcher(config: RunConfig, *, python: str = sys.executable) -> Launcher:
    """Return how a run's processes start: as its config says, else torchrun for training in several processes.

    `python` is the interpreter that launchers run in.

    A command of one's own starts its own processes, and only on several nodes those that it cannot reach are ours.
    """
    resources = config.resources
    several = resources.world_size if config.command is None else resources.nodes
    name = config.launcher or ("torchrun" if several + resources.spares > 1 else "python")
    return _select_launcher(name, python=python)


def _are_alike(member: Member, other: Member) -> bool:
    """Whether only ids, point and command can differ between their entries."""
    if member.snapshot != other.snapshot or member.resumes != other.resumes:
        return False
    theirs = vars(other.config)  # a variation shares most values with the next one, so that looking is comparing
    return all(
        name in READ_BY_PROGRAMS or value is theirs[name] or value == theirs[name]
        for name, value in vars(member.config).items()
    )


def _search_path(code: Path, inherited: str | None) -> str:
    if os.pathsep in str(code):
        # PYTHONPATH has no way to quote one: the job would import the code as it is later, not its snapshot.
        raise ConfigError(f"{code}: found {os.pathsep!r} in the project's path; allowed: a path without it")
    return str(code) if not inherited else f"{code}:{inherited}"
