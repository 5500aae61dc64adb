"""The checkpoint that a program of one's own is told of; our training finds its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nexa_contracts import env
from nexa_infra.scheduling.entry import Entry
from nexa_infra.storage.layout import Tiers

if TYPE_CHECKING:
    from nexa_infra.storage.checkpoints import StartingPoint


def find_start(entry: Entry, attempt: int) -> StartingPoint | None:
    """Return the whole checkpoint that an attempt goes on from; None for a program that is told of none.

    Raises:
        ConfigError: it resumes another run, of which no checkpoint is whole.
        StorageError: a tier cannot be listed.
    """
    resumes = entry.environment.get(env.RESUME_FROM) or None
    if env.RESUME_CHECKPOINT not in entry.environment or (resumes is None and attempt == 1):
        return None
    from nexa_infra.storage.checkpoints import choose_start  # a seal is a contract, and pydantic takes 0.13 s

    return choose_start(entry.run_id, Tiers(entry.scratch, entry.durable, entry.shared), resumes=resumes)


def tell_start(entry: Entry, start: StartingPoint) -> Entry:
    """Return the entry with the checkpoint in its program's environment."""
    folder = "" if start.folder is None else str(start.folder)
    return replace(entry, environment={**entry.environment, env.RESUME_CHECKPOINT: folder})
