"""The launchers by name."""

from __future__ import annotations

from nexa_contracts.errors import ConfigError
from nexa_infra.launchers.launcher import Launcher
from nexa_infra.launchers.python import PythonLauncher
from nexa_infra.launchers.torchrun import TorchrunLauncher


def list_launchers() -> dict[str, Launcher]:
    """Return every launcher by its name."""
    launchers: tuple[Launcher, ...] = (PythonLauncher(), TorchrunLauncher())
    return {launcher.name: launcher for launcher in launchers}


def select_launcher(name: str) -> Launcher:
    """Return the launcher of a name.

    Raises:
        ConfigError: there is no such launcher.
    """
    launchers = list_launchers()
    if name not in launchers:
        raise ConfigError(f"launcher: found {name!r}; allowed: {', '.join(launchers)}")
    return launchers[name]
