"""How a training ended, whatever stack it ran on."""

from __future__ import annotations

from dataclasses import dataclass

from nexa_contracts.exit_codes import CommandExit, WorkExit
from nexa_contracts.run import WorkResult


@dataclass(frozen=True, slots=True)
class Ending:
    """The exit status, and what the training says of its work."""

    status: WorkExit | CommandExit
    result: WorkResult
