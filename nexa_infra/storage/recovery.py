"""Recovery: every promotion whose process died is completed or removed, whatever moment it died in."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

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
from nexa_infra.storage.atomic import sweep_temporary
from nexa_infra.storage.intents import Claim, list_intents, take_claim
from nexa_infra.storage.layout import Tiers
from nexa_infra.storage.seal import verify_seal
from nexa_infra.storage.tiers import check_tier

logger = logging.getLogger(__name__)

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
    check_tier(tiers, "durable")
    settled: dict[str, list[str]] = {"completed": [], "removed": [], "damaged": []}
    for name in list_intents(tiers):
        claim = take_claim(tiers, name, wait=False)
        if claim is not None:
            settled[settle_claim(claim, tiers, clock=clock)].append(name)
    for name, path in list_incoming(tiers):
        # An intent is on the disk before its copy and goes after it: without one nobody is at work here.
        if not tiers.intent(name).exists():
            discard_folder(path)
    finish_removals(tiers.checkpoints)
    for folder in (tiers.intents, tiers.durable_manifests):
        sweep_temporary(folder, older_than_s=temporary_age_s, clock=clock)
    return Recovery(**{key: tuple(names) for key, names in settled.items()})


def settle_claim(claim: Claim, tiers: Tiers, *, clock: Clock) -> str:
    """Return `completed`, `removed` or `damaged`: what became of a promotion whose process died.

    Raises:
        StorageError: durable cannot be read or written; the intent is left for the next recovery.
    """
    settled = "removed"
    try:
        if os.path.lexists(tiers.checkpoint(claim.name)) and find_artifact(tiers, claim.name) is None:
            settled = _complete(claim.name, tiers, clock)
        discard_incoming(tiers, claim.name)
    except BaseException:
        claim.release()
        raise
    claim.finish()
    return settled


def _complete(name: str, tiers: Tiers, clock: Clock) -> str:
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
