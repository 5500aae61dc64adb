"""Where the record of an attempt waits while the run's own folder, on a full or read-only disk, cannot take it.

What a program came to is measured once, when it ended. Whoever starts a job entry names a file beside its own; its room
is taken before the program starts, so that it can be written even when that disk is the full one.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from nexa_infra.scheduling.records import Attempt, encode_attempt, parse_attempt, read_regular
from nexa_infra.storage.atomic import TEMPORARY_SUFFIX
from nexa_infra.storage.reserve import create_in_room, release_room, reserve_room

logger = logging.getLogger(__name__)

_ROOM_BYTES = 32 * 1024
_LONGEST_MESSAGE = 2_000


def sweep_rooms(folder: Path, tokens: Collection[str | None]) -> None:
    """Remove the reserved rooms of entries that are gone; `tokens` are of those that may live. Kept records stay."""
    for room in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        if room.name.split(".")[1] not in tokens:
            try:
                room.unlink(missing_ok=True)
            except OSError as error:
                logger.warning("reserved room is left path=%s reason=%s", room, error)


@dataclass(frozen=True, slots=True)
class Spare:
    """The second place of one attempt's record."""

    path: Path

    def reserve(self) -> None:
        """Take the room for it; without that it is tried all the same."""
        reserve_room(self.path, _ROOM_BYTES)

    def keep(self, attempt: Attempt) -> None:
        """Write the record here, shortened where it is longer than its room.

        Raises:
            StorageError: this place cannot take it either.
        """
        text = encode_attempt(attempt)
        if len(text) > _ROOM_BYTES and attempt.failure is not None:
            failure = replace(attempt.failure, message=attempt.failure.message[:_LONGEST_MESSAGE], evidence=())
            text = encode_attempt(replace(attempt, failure=failure))
        create_in_room(self.path, text)

    def find(self) -> Attempt | None:
        """Return what was kept; None when there is nothing, or nothing that can be read."""
        try:
            return parse_attempt(read_regular(self.path))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            logger.warning("kept record cannot be read path=%s reason=%s", self.path, error)
            return None

    def discard(self) -> None:
        """Give the room back; nobody needs it any more."""
        release_room(self.path)
