"""How processes start on a node: a launcher wraps a command and says what it adds to the environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nexa_contracts.resources import Resources


class Launcher(Protocol):
    """A pure function from a command to the command that starts it on each GPU or node."""

    name: str

    def wrap(
        self, command: Sequence[str], resources: Resources, *, run_id: str, max_restarts: int = 0
    ) -> tuple[str, ...]:
        """Return the argument list that starts the command; equal at every call.

        `max_restarts` says how often processes that died are started again within one attempt.

        Raises:
            ConfigError: this launcher cannot start a job of that shape.
        """
        ...

    def environment(self, resources: Resources) -> dict[str, str]:
        """Return the variables that the processes need beside the job's own."""
        ...
