"""The ways to ask a node: programs, our own small programs in a process of their own, and what the kernel shows.

A driver or a file server that hangs holds whoever asks it, so each is asked in a process that we can leave behind.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nexa_contracts.clock import Clock
from nexa_infra.process import CommandRunner, Completed

DRIVER_TIMEOUT_S = 30.0
"""A driver that was idle takes seconds to wake; one that is hung never answers."""
TOOL_TIMEOUT_S = 20.0
FOLDER_TIMEOUT_S = 10.0
"""A file server under load answers in less; one that is gone never does."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The seams that checks read through."""

    runner: CommandRunner
    clock: Clock
    environment: Mapping[str, str]
    proc: Path = Path("/proc")
    python: str = sys.executable

    def run(self, *argv: str, timeout_s: float = TOOL_TIMEOUT_S) -> Completed:
        """Return how a tool ended, whatever its status.

        Raises:
            CommandMissing: it is not installed.
            CommandTimedOut: it hangs.
        """
        return self.runner.run(argv, timeout_s=timeout_s)

    def run_own(self, module: str, *arguments: str, timeout_s: float) -> Completed:
        """Return how a module of this package ended as a program of its own.

        Raises:
            CommandTimedOut: what it asks hangs.
        """
        return self.runner.run((self.python, "-m", f"nexa_infra.health.{module}", *arguments), timeout_s=timeout_s)

    def read(self, name: str) -> str | None:
        """Return the text of a file below /proc; None when the kernel does not show it."""
        try:
            return (self.proc / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
