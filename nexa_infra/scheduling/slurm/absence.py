"""Runs that Slurm did not know at a look: one look proves nothing, two that are some time apart do.

What was missing and when is written beside the chunks, for two looks may be made by two processes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path

from nexa_contracts.errors import StorageError
from nexa_infra.scheduling.slurm.chunks import FOLDER
from nexa_infra.storage.atomic import replace_file

logger = logging.getLogger(__name__)

APART_S = 30.0
"""Longer than a controller takes to come back from its saved state."""
_NAME = "missing.json"


def note_missing(folder: Path, missing: Collection[str], *, seen: Collection[str], now: datetime) -> frozenset[str]:
    """Return which of a submission's missing runs were missing at a look some time ago too, noting the others.

    Those that were `seen` are missing no more. Where nothing can be noted no run is missing for sure.
    """
    path = folder / FOLDER / _NAME
    before = _read(path)
    noted = {run_id: at for run_id, at in before.items() if run_id not in seen}
    # A clock that was set back makes a look of the future: it counts from now.
    noted |= {run_id: min(before.get(run_id, now), now) for run_id in missing}
    if noted != before:
        try:
            replace_file(path, json.dumps({run_id: at.isoformat() for run_id, at in noted.items()}).encode())
        except StorageError as error:
            logger.info("missing runs cannot be noted: %s", error)
            return frozenset()
    return frozenset(run_id for run_id in missing if now - noted[run_id] >= timedelta(seconds=APART_S))


def _read(path: Path) -> dict[str, datetime]:
    try:
        found = json.loads(path.read_bytes())
        return {str(run_id): datetime.fromisoformat(at) for run_id, at in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # there is none, or it was damaged: the looks begin anew
