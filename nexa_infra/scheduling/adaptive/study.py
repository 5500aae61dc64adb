"""The study of a sweep: a journal on the shared tier that every job of the sweep opens.

Optuna is an extra, and importing it takes 0.5 s of CPU: it is imported in functions, in jobs of such sweeps and by
whoever settles what they left.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from nexa_contracts.clock import SystemClock
from nexa_contracts.errors import MissingExtra, StorageError
from nexa_infra.scheduling.adaptive.journal_lock import JournalLock
from nexa_infra.storage.atomic import make_folder, storage_errors

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import JournalStorage

    from nexa_contracts.sweep import SweepConfig

RUN_ID = "run_id"
INDEX = "index"
"""Attributes of a trial: the run it is, and the member of the sweep."""
_HINT = "nexa sweep --resume goes on with what is there; optuna-dashboard shows it"


def open_study(path: Path, sweep: SweepConfig, *, sweep_id: str) -> Study:
    """Return the study in a journal, made if it is not there.

    Raises:
        MissingExtra: Optuna is not installed.
        StorageError: the journal cannot be read or written, or is damaged.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingExtra("search", package="optuna", needed_for="a tpe search or a pruner") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    make_folder(path.parent)
    with study_errors(path):
        storage, sampler, pruner = _open_storage(path), create_sampler(sweep), _create_pruner(sweep)
        try:
            return optuna.load_study(study_name=sweep_id, storage=storage, sampler=sampler, pruner=pruner)
        except KeyError:
            return optuna.create_study(
                study_name=sweep_id,
                storage=storage,
                sampler=sampler,
                pruner=pruner,
                direction=sweep.objective.direction,
                load_if_exists=True,  # another job may have been faster
            )


def create_sampler(sweep: SweepConfig, *, index: int = 0, generation: int = 0) -> BaseSampler:
    """Return what chooses the point of a member; each of them must draw other random numbers.

    `generation` counts the earlier trials of the same member.
    """
    from optuna.samplers import RandomSampler, TPESampler

    if not sweep.is_adaptive:
        return RandomSampler(seed=sweep.seed)  # its points are known, and it is not asked
    mark = sha256(f"{sweep.seed}:{index}:{generation}".encode()).digest()
    # The trials that run count as bad ones until they end, so that two who ask at once are not sent to one place.
    return TPESampler(seed=int.from_bytes(mark[:4]), constant_liar=True)


@contextmanager
def study_errors(path: Path) -> Iterator[None]:
    """Turn what Optuna's journal raises into a StorageError that names it."""
    try:
        with storage_errors(path, "using the study"):
            yield
    except ValueError as error:  # json.JSONDecodeError is one
        raise StorageError(f"{path}: damaged: {error}", hint=_HINT) from error
    except RuntimeError as error:  # of its lock
        raise StorageError(f"{path}: {error}", hint="this process was stopped meanwhile, or its disk hung") from error


def _open_storage(path: Path) -> JournalStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

    class Lock(JournalLock, JournalFileSymlinkLock):
        pass  # nothing of the second is used: it is what the backend asks for

    return JournalStorage(JournalFileBackend(str(path), lock_obj=Lock(path, clock=SystemClock())))


def _create_pruner(sweep: SweepConfig) -> BasePruner:
    from optuna import pruners

    after = sweep.prune_after_steps
    match sweep.pruner:
        case "none":
            return pruners.NopPruner()
        case "asha":
            return pruners.SuccessiveHalvingPruner(min_resource="auto" if after is None else after)
        case "median":
            return pruners.MedianPruner(n_warmup_steps=after or 0)
        case "hyperband":
            return pruners.HyperbandPruner(min_resource=after or 1)
