"""The backends by name."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nexa_contracts.errors import ConfigError
from nexa_infra.scheduling.local import LocalBackend
from nexa_infra.scheduling.state_dir import StateDir

if TYPE_CHECKING:
    from nexa_infra.operations.context import Context
    from nexa_infra.scheduling.backend import Backend

BACKENDS = ("local",)


def create_backend(name: str, context: Context) -> Backend:
    """Return the backend of that name.

    Raises:
        ConfigError: there is no such backend.
    """
    if name not in BACKENDS:
        raise ConfigError(f"backend: found {name!r}; allowed: {', '.join(BACKENDS)}")
    return LocalBackend(
        state_dir(context.environment), environment=context.environment, clock=context.clock, runner=context.runner
    )


def local_backend(environment: Mapping[str, str] | None = None) -> LocalBackend:
    """Return this machine's local backend, for commands that read no config."""
    variables = os.environ if environment is None else environment
    return LocalBackend(state_dir(variables), environment=variables)


def state_dir(environment: Mapping[str, str]) -> StateDir:
    """Return where the local queue of this user and machine lies.

    Raises:
        ConfigError: the environment names no place for it.
    """
    return StateDir.from_environment(environment, hostname=socket.gethostname())
