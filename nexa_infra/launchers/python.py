"""The launcher that adds nothing: one process, as the command says."""

from __future__ import annotations

from collections.abc import Sequence

from nexa_contracts.errors import ConfigError
from nexa_contracts.resources import Resources


class PythonLauncher:
    """Starts the command once, on one node."""

    name = "python"

    def wrap(
        self,
        command: Sequence[str],
        resources: Resources,
        *,
        run_id: str,
        max_restarts: int = 0,  # noqa: ARG002 - the protocol's; a single process that dies ends its attempt
    ) -> tuple[str, ...]:
        """Return the command as it is.

        Raises:
            ConfigError: several nodes or processes are asked for, which one process cannot be; or spares, which only
                nodes that meet can make use of.
        """
        several = resources.processes_per_node or 1
        for key, found, allowed in (
            ("nodes", resources.nodes, 1), ("spares", resources.spares, 0), ("processes_per_node", several, 1),
        ):  # fmt: skip
            if found != allowed:
                raise ConfigError(
                    f"{run_id}: resources.{key}: found {found}; allowed with the launcher python: {allowed}",
                    hint="use the launcher torchrun",
                )
        return tuple(command)

    def environment(self, resources: Resources) -> dict[str, str]:  # noqa: ARG002 - the protocol's
        """Return nothing: the job entry gives the one process all the cores."""
        return {}
