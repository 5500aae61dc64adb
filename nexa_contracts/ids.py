"""Run and sweep ids: sorted by time, unique within a second, safe as a path, a job name and a Kubernetes label."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime

from nexa_contracts.errors import ConfigError

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_SUFFIX_LENGTH = 4
_STAMP = r"[0-9]{8}_[0-9]{6}_[0-9a-z]{4}"
RUN_ID = re.compile(rf"run_{_STAMP}(?:-[0-9]{{3,7}})?")
SWEEP_ID = re.compile(rf"sweep_{_STAMP}")
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
NAME_RULE = "1 to 63 of A-Z a-z 0-9 . _ - beginning and ending with a letter or digit"


def create_stamp(now: datetime, *, entropy: str | None = None) -> str:
    """Return the shared part of ids made now, as `20251030_213000_k3f9`.

    `entropy` replaces the four random characters; it must be four characters of 0-9a-z.
    """
    suffix = entropy if entropy is not None else "".join(secrets.choice(_ALPHABET) for _ in range(_SUFFIX_LENGTH))
    return f"{now.astimezone(UTC):%Y%m%d_%H%M%S}_{suffix}"


def stamp_time(text: str) -> datetime:
    """Return when the stamp in a run or sweep id was made, in UTC, to the second."""
    _, day, second, *_ = text.split("_")
    return datetime.strptime(f"{day}{second}", "%Y%m%d%H%M%S").replace(tzinfo=UTC)


def run_id(stamp: str, *, index: int | None = None, count: int = 1000) -> str:
    """Return the id of a run, with the member's index when it belongs to a sweep of `count` members."""
    if index is None:
        return f"run_{stamp}"
    width = max(3, len(str(max(0, count - 1))))
    return f"run_{stamp}-{index:0{width}d}"


def sweep_id(stamp: str) -> str:
    """Return the id of the sweep whose runs carry the same stamp."""
    return f"sweep_{stamp}"


def is_run_id(text: str) -> bool:
    """Whether the text is a run id, to the letter."""
    return RUN_ID.fullmatch(text) is not None


def is_sweep_id(text: str) -> bool:
    """Whether the text is a sweep id, to the letter."""
    return SWEEP_ID.fullmatch(text) is not None


def check_name(text: str, *, what: str) -> str:
    """Return the text if it may name something on disk and in a scheduler.

    Raises:
        ConfigError: it has a character or a length that is not allowed.
    """
    if NAME.fullmatch(text) is None:
        shown = text if len(text) <= 80 else text[:77] + "..."
        raise ConfigError(f"{what}: found {shown!r}; allowed: {NAME_RULE}")
    return text
