"""The launcher that adds nothing: one process, as the command says."""

from __future__ import annotations

from collections.abc import Sequence

from nexa_contracts.errors import ConfigError
from nexa_contracts.resources import Resources


class PythonLauncher:
    """Starts the command once, on one node."""

    name = "python"

    def wrap(self, command: Sequence[str], resources: Resources, *, run_id: str) -> tuple[str, ...]:
        """Return the command as it is.

        Raises:
            ConfigError: more than one node is asked for, where one process cannot be.
        """
        if resources.nodes != 1:
            raise ConfigError(
                f"{run_id}: resources.nodes: found {resources.nodes}; allowed with the launcher python: 1",
                hint="use the launcher torchrun",
            )
        return tuple(command)

    def environment(self, resources: Resources) -> dict[str, str]:  # noqa: ARG002 - the protocol's
        """Return nothing: the job entry gives the one process all the cores."""
        return {}
