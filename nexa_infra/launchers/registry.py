"""The launchers by name."""

from __future__ import annotations

import sys

from nexa_contracts.errors import ConfigError
from nexa_infra.launchers.launcher import Launcher
from nexa_infra.launchers.python import PythonLauncher
from nexa_infra.launchers.torchrun import TorchrunLauncher


def list_launchers(*, python: str = sys.executable) -> dict[str, Launcher]:
    """Return every launcher by its name; `python` is the interpreter that they run in."""
    launchers: tuple[Launcher, ...] = (PythonLauncher(), TorchrunLauncher(python))
    return {launcher.name: launcher for launcher in launchers}


def select_launcher(name: str, *, python: str = sys.executable) -> Launcher:
    """Return the launcher of a name, for this interpreter.

    Raises:
        ConfigError: there is no such launcher.
    """
    launchers = list_launchers(python=python)
    if name not in launchers:
        raise ConfigError(f"launcher: found {name!r}; allowed: {', '.join(launchers)}")
    return launchers[name]
