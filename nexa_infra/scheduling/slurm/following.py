"""A run's log followed while Slurm has the run: across attempts and requeues, until it has an outcome."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from nexa_contracts.clock import Clock
from nexa_contracts.errors import ConfigError, ExternalError, NotFound, StorageError
from nexa_infra.scheduling.entry import read_entry
from nexa_infra.scheduling.logs import Progress, scratch_log
from nexa_infra.scheduling.slurm.chunks import Chunk
from nexa_infra.storage.run_dir import RunDir

logger = logging.getLogger(__name__)

_FIRST_LOOK_S = 10.0
_LONGEST_PAUSE_S = 120.0


class Follower:
    """Knows where a run's logs are and how far it is: from its own files, and now and then from Slurm."""

    def __init__(
        self, run_dir: RunDir, outcome: Path, scratch: Path | None, *, look: Callable[[], object], clock: Clock
    ) -> None:
        """`look` asks Slurm, and settles the run if its job died in silence."""
        self._run_dir = run_dir
        self._outcome = outcome
        self._scratch = scratch
        self._look = look
        self._clock = clock
        self._pause_s = _FIRST_LOOK_S
        self._looked_at_s = clock.monotonic_s()

    def find_log(self, attempt: int) -> Path | None:
        """Return where the log of an attempt lies: where it is kept, else on scratch, if that is seen from here."""
        kept = self._run_dir.log(attempt)
        if kept.exists() or self._scratch is None:
            return kept
        return scratch_log(self._scratch, self._run_dir.path.name, attempt)

    def read_progress(self) -> Progress:
        """Return how far the run is."""
        is_final = self._outcome.exists()
        if not is_final and self._clock.monotonic_s() - self._looked_at_s >= self._pause_s:
            self._ask()
        attempt = 0
        while self._is_begun(attempt + 1):
            attempt += 1
        return Progress(attempt=attempt, is_final=is_final)

    def _ask(self) -> None:
        # Slurm serves everyone: the longer a log is followed, the less often it is asked.
        self._pause_s = min(_LONGEST_PAUSE_S, self._pause_s * 2)
        try:
            self._look()
        except (ExternalError, StorageError) as error:
            logger.info("run cannot be looked at run_id=%s reason=%s", self._run_dir.path.name, error)
        self._looked_at_s = self._clock.monotonic_s()

    def _is_begun(self, attempt: int) -> bool:
        run_dir = self._run_dir
        return any(path.exists() for path in (run_dir.start(attempt), run_dir.attempt(attempt), run_dir.log(attempt)))


def find_scratch(chunk: Chunk, run_id: str) -> Path | None:
    """Return where a run has its scratch; None when its spec is gone."""
    try:
        return read_entry(chunk.spec, chunk.runs[run_id]).scratch
    except (NotFound, ConfigError) as error:
        logger.info("spec cannot be read: %s", error)
        return None
