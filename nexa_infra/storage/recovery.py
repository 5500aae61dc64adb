"""Recovery: every promotion whose process died is completed or removed, whatever moment it died in."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Literal

from nexa_contracts.clock import Clock
from nexa_contracts.errors import DigestMismatch, NotFound
from nexa_infra.storage.artifacts import (
    discard_folder,
    discard_incoming,
    find_artifact,
    finish_removals,
    list_incoming,
    record_artifact,
    set_aside,
)
from nexa_infra.storage.atomic import storage_errors, sweep_temporary
from nexa_infra.storage.intents import Claim, list_intents, take_claim
from nexa_infra.storage.layout import Tiers
from nexa_infra.storage.seal import verify_seal
from nexa_infra.storage.tiers import check_tier

logger = logging.getLogger(__name__)

Settlement = Literal["completed", "removed", "damaged"]
_TEMPORARY_AGE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a recovery settled, by artifact name."""

    completed: tuple[str, ...] = ()
    """Were visible and whole; they have their manifest now."""
    removed: tuple[str, ...] = ()
    """Were never visible; what was copied of them is gone."""
    damaged: tuple[str, ...] = ()
    """Were visible and not what their seal says: set aside under `checkpoints/.damaged-<name>-…`."""


def recover_promotions(tiers: Tiers, *, clock: Clock, temporary_age_s: float = _TEMPORARY_AGE_S) -> Recovery:
    """Settle every promotion whose process died; return what became of each. Safe beside living ones and itself.

    Temporary files of killed writers go when they are older than `temporary_age_s`.

    Raises:
        TierMissing: durable is not mounted, or is another folder.
        StorageError: durable cannot be read or written.
    """
    with storage_errors(tiers.durable, "settling promotions"):
        check_tier(tiers, "durable")
        settled = [(name, _settle_if_free(name, tiers, clock)) for name in list_intents(tiers)]
        for name, path in list_incoming(tiers):
            # An intent is on the disk before its copy and goes after it: without one nobody is at work here.
            if not tiers.intent(name).exists():
                discard_folder(path)
        finish_removals(tiers.checkpoints)
        for folder in (tiers.intents, tiers.durable_manifests):
            sweep_temporary(folder, older_than_s=temporary_age_s, clock=clock)
    return Recovery(
        completed=tuple(name for name, became in settled if became == "completed"),
        removed=tuple(name for name, became in settled if became == "removed"),
        damaged=tuple(name for name, became in settled if became == "damaged"),
    )


def settle_claim(claim: Claim, tiers: Tiers, *, clock: Clock) -> Settlement:
    """Return what became of a promotion whose process died.

    Raises:
        StorageError: durable cannot be read or written; the intent is left for the next recovery.
    """
    settled: Settlement = "removed"
    try:
        if os.path.lexists(tiers.checkpoint(claim.name)) and find_artifact(tiers, claim.name) is None:
            settled = _complete(claim.name, tiers, clock)
        discard_incoming(tiers, claim.name)
    except BaseException:
        claim.release()
        raise
    claim.finish()
    return settled


def _settle_if_free(name: str, tiers: Tiers, clock: Clock) -> Settlement | None:
    claim = take_claim(tiers, name, wait=False)
    return None if claim is None else settle_claim(claim, tiers, clock=clock)


def _complete(name: str, tiers: Tiers, clock: Clock) -> Settlement:
    try:
        record_artifact(tiers, name, seal=verify_seal(tiers.checkpoint(name)), clock=clock)
    except DigestMismatch as error:
        aside = set_aside(tiers, name)
        logger.warning("damaged artifact is set aside name=%s path=%s: %s", name, aside, error)
        return "damaged"
    except NotFound:
        # A promotion's folder carries its seal from the first moment, so this one was put there by someone else.
        logger.warning("folder without a seal is left as it is path=%s", tiers.checkpoint(name))
        return "removed"
    return "completed"
