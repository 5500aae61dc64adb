"""How a training ended, whatever stack it ran on."""

from __future__ import annotations

from dataclasses import dataclass

from nexa_contracts.errors import NexaError, StorageError
from nexa_contracts.exit_codes import CommandExit, WorkExit
from nexa_contracts.run import FailureNote, WorkResult


@dataclass(frozen=True, slots=True)
class Ending:
    """The exit status, and what the training says of its work."""

    status: WorkExit | CommandExit
    result: WorkResult


def find_status(error: NexaError) -> WorkExit | CommandExit:
    """Return the exit status that an error stands for."""
    return WorkExit.BAD_REQUEST if error.exit_code == CommandExit.BAD_REQUEST else CommandExit.FAILED


def note_failure(error: NexaError) -> FailureNote:
    """Return an error as a run's record tells it, with what to do."""
    if find_status(error) == WorkExit.BAD_REQUEST:
        kind = "bad_request"
    else:
        kind = "storage" if isinstance(error, StorageError) else "crash"
    return FailureNote(kind=kind, message=error.message, evidence=(str(error),))
