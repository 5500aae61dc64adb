"""The backends by name."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nexa_contracts.clock import Clock, SystemClock
from nexa_contracts.errors import ConfigError
from nexa_contracts.units import parse_duration_s
from nexa_infra.process import CommandRunner, SystemRunner
from nexa_infra.scheduling.state_dir import StateDir
from nexa_infra.storage.layout import Project

if TYPE_CHECKING:
    from nexa_contracts.config import Override
    from nexa_infra.operations.context import Context
    from nexa_infra.scheduling.backend import Backend
    from nexa_infra.scheduling.local import LocalBackend
    from nexa_infra.scheduling.slurm.backend import SlurmBackend
    from nexa_infra.scheduling.slurm.client import SlurmClient

BACKENDS = ("local", "slurm", "ddp")
DDP = "ddp"
"""Short for this machine, with torchrun whatever the config says."""
ANSWER_TIMEOUT_S = 20.0
"""For a command of Slurm where no config is read."""


def create_backend(name: str, context: Context) -> Backend:
    """Return the backend of that name.

    Raises:
        ConfigError: there is no such backend.
    """
    match name:
        case "local" | "ddp":
            return local_backend(context.environment, clock=context.clock, runner=context.runner)
        case "slurm":
            return site_slurm_backend(context)
        case _:
            raise ConfigError(f"backend: found {name!r}; allowed: {', '.join(BACKENDS)}")


def resolve_backend(name: str, overrides: Sequence[Override]) -> tuple[str, tuple[Override, ...]]:
    """Return the backend that a name is short for, and the overrides that go with it; those given go before."""
    if name != DDP:
        return name, tuple(overrides)
    from nexa_contracts.config import Override

    return "local", (Override(key="launcher", value="torchrun", text="torchrun"), *overrides)


def local_backend(
    environment: Mapping[str, str] | None = None, *, clock: Clock | None = None, runner: CommandRunner | None = None
) -> LocalBackend:
    """Return this machine's local backend."""
    from nexa_infra.scheduling.local import LocalBackend  # with the queue's database, 30 ms that Slurm's need not pay

    variables = os.environ if environment is None else environment
    return LocalBackend(state_dir(variables), environment=variables, clock=clock, runner=runner)


def slurm_backend(
    project: Project, environment: Mapping[str, str], *, clock: Clock | None = None, runner: CommandRunner | None = None
) -> SlurmBackend:
    """Return the backend of the cluster this machine belongs to, for commands that read no config."""
    return _slurm_backend(project, environment, clock or SystemClock(), runner or SystemRunner(), ANSWER_TIMEOUT_S)


def site_slurm_backend(context: Context) -> SlurmBackend:
    """Return the backend of the cluster this machine belongs to, as the site file has it."""
    timeout_s = parse_duration_s(context.site.slurm.answer_timeout)
    return _slurm_backend(context.project, context.environment, context.clock, context.runner, timeout_s)


def site_slurm_client(context: Context) -> SlurmClient:
    """Return what asks the cluster this machine belongs to, as the site file has it."""
    from nexa_infra.scheduling.slurm.client import SlurmClient

    timeout_s = parse_duration_s(context.site.slurm.answer_timeout)
    return SlurmClient(context.runner, environment=context.environment, clock=context.clock, timeout_s=timeout_s)


def state_dir(environment: Mapping[str, str]) -> StateDir:
    """Return where the local queue of this user and machine lies.

    Raises:
        ConfigError: the environment names no place for it.
    """
    return StateDir.from_environment(environment, hostname=socket.gethostname())


def _slurm_backend(
    project: Project, environment: Mapping[str, str], clock: Clock, runner: CommandRunner, timeout_s: float
) -> SlurmBackend:
    from nexa_infra.scheduling.slurm.backend import SlurmBackend
    from nexa_infra.scheduling.slurm.client import SlurmClient

    client = SlurmClient(runner, environment=environment, clock=clock, timeout_s=timeout_s)
    return SlurmBackend(project.runs, client=client, environment=environment, clock=clock)
