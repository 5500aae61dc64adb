"""Checkpoints to go on from: the newest one that is whole, and how many stay on scratch."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from nexa_contracts.errors import ConfigError, DigestMismatch, NotFound, StorageError
from nexa_infra.storage.artifacts import discard_folder, finish_removals
from nexa_infra.storage.atomic import storage_errors
from nexa_infra.storage.layout import CHECKPOINT_PREFIX, Tiers, checkpoint_name
from nexa_infra.storage.seal import describe_seal, verify_seal

logger = logging.getLogger(__name__)

_STEP = re.compile(r"0|[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint's folder and the step its name says; nothing is known of what is in it."""

    path: Path
    step: int


@dataclass(frozen=True, slots=True)
class ResumeChoice:
    """The checkpoint a run can go on from, and the newer ones that cannot be used."""

    path: Path | None
    """None: there is none, the run starts afresh."""
    step: int | None
    skipped: tuple[str, ...] = ()
    """One line each, newest first, with the reason."""


@dataclass(frozen=True, slots=True)
class StartingPoint:
    """Where a run begins: at a verified checkpoint, or afresh."""

    folder: Path | None = None
    step: int = 0
    origin: str | None = None
    """As `<run_id> step <n>`."""
    skipped: tuple[str, ...] = ()
    """The checkpoints passed over, one line each with the reason."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was passed over, and what is used instead, for the log."""
        instead = "starting afresh" if self.folder is None else f"using step {self.step}"
        return tuple(f"{line}; {instead}" for line in self.skipped)


def choose_start(run_id: str, tiers: Tiers, *, resumes: str | None) -> StartingPoint:
    """Return where a run begins: at a checkpoint of its own, else of the run it resumes, else afresh.

    Raises:
        ConfigError: it resumes another run, of which no checkpoint is whole.
        StorageError: a tier cannot be listed.
    """
    skipped: list[str] = []
    for candidate in dict.fromkeys(filter(None, (run_id, resumes))):
        choice = find_resumable(candidate, tiers)
        skipped += choice.skipped
        if choice.path is not None and choice.step is not None:
            return StartingPoint(choice.path, choice.step, f"{candidate} step {choice.step}", tuple(skipped))
    if resumes is not None:
        raise ConfigError(
            f"run {resumes}: no whole checkpoint to resume from; {'; '.join(skipped) or 'none was saved'}",
            hint="start without --resume, and save checkpoints more often",
        )
    return StartingPoint(skipped=tuple(skipped))


def find_resumable(run_id: str, tiers: Tiers) -> ResumeChoice:
    """Return the newest checkpoint of a run whose every file was read and has its digest.

    Of one step the copy on scratch is tried before the one kept on durable. A checkpoint that was cut off, damaged or
    cannot be read is named in `skipped`, and the one before is used.

    Raises:
        StorageError: a tier cannot be listed.
    """
    skipped: list[str] = []
    for checkpoint in list_checkpoints(run_id, tiers):
        reason = _reason_to_skip(checkpoint, run_id)
        if reason is None:
            return ResumeChoice(checkpoint.path, checkpoint.step, tuple(skipped))
        skipped.append(reason)
    return ResumeChoice(None, None, tuple(skipped))


def list_checkpoints(run_id: str, tiers: Tiers) -> tuple[Checkpoint, ...]:
    """Return a run's checkpoints on scratch and durable, whole or not: newest first, of one step scratch first.

    Raises:
        StorageError: a tier cannot be listed.
    """
    found = [*list_scratch_checkpoints(run_id, tiers)]
    found += _list(tiers.checkpoints, checkpoint_name(run_id, 0).removesuffix("0"))
    return tuple(sorted(found, key=lambda checkpoint: -checkpoint.step))


def list_scratch_checkpoints(run_id: str, tiers: Tiers) -> tuple[Checkpoint, ...]:
    """Return a run's checkpoints on scratch, whole or not, oldest first.

    Raises:
        StorageError: scratch cannot be listed.
    """
    found = _list(tiers.checkpoints_temp(run_id), CHECKPOINT_PREFIX)
    return tuple(sorted(found, key=lambda checkpoint: checkpoint.step))


def rotate(
    run_id: str,
    tiers: Tiers,
    *,
    keep_last: int,
    protected: Collection[Path] = (),
    verified: set[Path] | None = None,
) -> tuple[Path, ...]:
    """Remove a run's older checkpoints from scratch; return what was removed.

    The newest `keep_last` verified ones stay, and so does everything newer than the newest verified one, which may
    still be being written, and what is `protected`. Nothing goes while there is no verified one. `verified` holds
    folders known to be whole, which are not read again; those found to be whole are added to it.

    Raises:
        ValueError: keep_last is less than 1.
        StorageError: scratch cannot be read or written.
    """
    if keep_last < 1:
        raise ValueError(f"keep_last: found {keep_last}; allowed: 1 or more")
    known = verified if verified is not None else set()
    folder = tiers.checkpoints_temp(run_id)
    finish_removals(folder)
    kept = 0
    removed: list[Path] = []
    for checkpoint in sorted(_list(folder, CHECKPOINT_PREFIX), key=lambda found: -found.step):
        if kept < keep_last and _is_whole(checkpoint, run_id, known):
            kept += 1
        elif kept and checkpoint.path not in protected:
            discard_folder(checkpoint.path)
            known.discard(checkpoint.path)
            removed.append(checkpoint.path)
    return tuple(removed)


def _is_whole(checkpoint: Checkpoint, run_id: str, known: set[Path]) -> bool:
    if checkpoint.path not in known:
        reason = _reason_to_skip(checkpoint, run_id)
        if reason is not None:
            logger.info("checkpoint does not count as kept run_id=%s: %s", run_id, reason)
            return False
        known.add(checkpoint.path)
    return True


def _list(folder: Path, prefix: str) -> list[Checkpoint]:
    with storage_errors(folder, "reading the folder"):
        try:
            entries = list(os.scandir(folder))
        except FileNotFoundError:
            return []
        return [
            Checkpoint(Path(entry.path), int(entry.name.removeprefix(prefix)))
            for entry in entries
            if entry.name.startswith(prefix)
            and _STEP.fullmatch(entry.name.removeprefix(prefix))
            and entry.is_dir(follow_symlinks=False)
        ]


def _reason_to_skip(checkpoint: Checkpoint, run_id: str) -> str | None:
    name = checkpoint.path.name
    try:
        seal = verify_seal(checkpoint.path)
    except NotFound:
        return f"{name} is not sealed: it was cut off while it was saved ({checkpoint.path})"
    except DigestMismatch as error:
        return f"{name} is damaged: {error.message}"
    except StorageError as error:
        return f"{name} cannot be read: {error.message}"
    if (seal.kind, seal.run_id, seal.step) != ("checkpoint", run_id, checkpoint.step):
        return f"{name} is sealed as {describe_seal(seal)} ({checkpoint.path})"
    return None
