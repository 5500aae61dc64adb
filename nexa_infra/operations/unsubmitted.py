"""Single runs that were planned and never handed over, because their launch was cut off: they are ended on record.

Whoever plans a run holds a lock in its folder until the backend took it, and the kernel lets the lock go however that
process ends. Who finds it free, and no sign that the run was handed over, may say that it never will be. Members of a
sweep are left alone: resuming the sweep hands them over.

No contract is loaded here: `nexa runs` and `nexa status` settle what they find.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from nexa_contracts.clock import Clock
from nexa_contracts.errors import AlreadyExists, NexaError, Refused, StorageError
from nexa_contracts.states import JobState
from nexa_infra.operations.backends import state_dir
from nexa_infra.operations.progress import read_object
from nexa_infra.scheduling.lock import FileLock
from nexa_infra.scheduling.records import Attempt, Failure, record_unstarted
from nexa_infra.scheduling.slurm.chunks import list_chunks
from nexa_infra.storage.atomic import create_file
from nexa_infra.storage.layout import Project

if TYPE_CHECKING:
    from nexa_infra.operations.context import Context

logger = logging.getLogger(__name__)

_LOCK_NAME = ".launch.lock"
_HANDED_OVER_HERE = ("local", "slurm")
_CUT_OFF = "was cut off"


@contextmanager
def hold_launch(context: Context, run_id: str) -> Iterator[None]:
    """Keep everyone from taking a run for cut off while it is planned and handed over.

    A run that was planned and not handed over when an error ended this gets its outcome with that reason.

    Raises:
        AlreadyExists: the id is taken.
        StorageError: the disk is full, read-only or broken.
    """
    path = _lock_path(context.project, run_id)
    create_file(path, _describe_place(context.environment))
    try:
        with FileLock(path) as lock:
            _require_lock(lock, path, context.clock)
            try:
                yield
            except Exception as error:
                _record_failed_launch(context, run_id, error)
                raise
    except BaseException:
        if not context.project.manifest(run_id).exists():
            shutil.rmtree(path.parent, ignore_errors=True)  # nothing was planned
        raise


def check_unsettled(project: Project, run_id: str) -> None:
    """Return if a run that is held may be handed over.

    Raises:
        Refused: it has ended on record, which can be where the file system keeps no locks.
    """
    if project.outcome(run_id).exists():
        raise Refused(f"{run_id}: was recorded as never submitted while it was being planned", hint="launch it again")


def settle_unsubmitted(
    project: Project, run_ids: Sequence[str], *, environment: Mapping[str, str], clock: Clock
) -> tuple[str, ...]:
    """Record the end of those of these runs that were planned and will never be handed over; return which.

    Only the machine and the queue a run was meant for can tell; elsewhere, and where nothing can be written, nothing is
    settled.
    """
    here = _describe_place(environment)
    found = [run_id for run_id in run_ids if _looks_cut_off(project, run_id, here)]
    return tuple(run_id for run_id in found if _try_to_settle(project, run_id, environment, clock))


def _lock_path(project: Project, run_id: str) -> Path:
    return project.run(run_id) / _LOCK_NAME


def _require_lock(lock: FileLock, path: Path, clock: Clock) -> None:
    if not lock.acquire(wait_s=0.0, clock=clock):
        raise AlreadyExists(f"{path}: another process plans this run")


def _describe_place(environment: Mapping[str, str]) -> bytes:
    place = {"host": os.uname().nodename, "queue": str(state_dir(environment).queue)}
    return (json.dumps(place) + "\n").encode()


def _looks_cut_off(project: Project, run_id: str, here: bytes) -> bool:
    signs = (project.submission(run_id), project.attempts(run_id), project.outcome(run_id))
    if any(sign.exists() for sign in signs):
        return False
    try:
        return _lock_path(project, run_id).read_bytes() == here
    except OSError:
        return False  # of a version that left no mark, or of someone else


def _try_to_settle(project: Project, run_id: str, environment: Mapping[str, str], clock: Clock) -> bool:
    try:
        with FileLock(_lock_path(project, run_id)) as lock:
            if not lock.acquire(wait_s=0.0, clock=clock):
                return False  # its launch goes on
            return _settle_held(project, run_id, _CUT_OFF, environment=environment, clock=clock)
    except StorageError as error:
        logger.info("a run that was never submitted is not settled run_id=%s reason=%s", run_id, error)
        return False


def _record_failed_launch(context: Context, run_id: str, error: Exception) -> None:
    if isinstance(error, AlreadyExists):
        return  # the id may be another's; the launch is tried again with a new one
    reason = str(error) if isinstance(error, NexaError) else f"{type(error).__name__}: {error}"
    try:
        what = f"failed: {reason}"
        _settle_held(context.project, run_id, what, environment=context.environment, clock=context.clock)
    except StorageError as further:
        logger.warning("reason of a launch that failed is not recorded run_id=%s reason=%s", run_id, further)


def _settle_held(project: Project, run_id: str, what: str, *, environment: Mapping[str, str], clock: Clock) -> bool:
    # Whoever calls has the lock, so nobody else can hand it over.
    if not _looks_cut_off(project, run_id, _describe_place(environment)) or _is_queued(run_id, environment):
        return False
    if list_chunks(project.run(run_id)):
        return False  # Slurm was asked to take it, and whether it did is asked there
    manifest = read_object(project.manifest(run_id))
    if manifest.get("backend") not in _HANDED_OVER_HERE or manifest.get("sweep_id") is not None:
        return False
    return record_unstarted(project.outcome(run_id), _describe_end(run_id, manifest, what, now=clock.now()))


def _is_queued(run_id: str, environment: Mapping[str, str]) -> bool:
    queue_file = state_dir(environment).queue
    if not queue_file.exists():
        return False
    from nexa_infra.scheduling.local_queue import LocalQueue

    with closing(LocalQueue(queue_file)) as queue:
        return run_id in queue.find_runs([run_id])


def _describe_end(run_id: str, manifest: Mapping[str, object], what: str, *, now: datetime) -> Attempt:
    message = f"it was planned and never submitted, because its launch {what}; nothing of it ran"
    overrides = manifest.get("overrides")
    words = ["nexa", "launch", str(manifest.get("config_source"))]
    for key, value in overrides.items() if isinstance(overrides, dict) else ():
        words += ["--set", f"{key}={value}"]
    words += [] if manifest.get("backend") == "local" else ["--backend", str(manifest.get("backend"))]
    resumes = manifest.get("resumes")
    words += ["--resume", str(resumes.get("run_id"))] if isinstance(resumes, dict) else []
    return Attempt(
        run_id=run_id,
        number=0,
        state=JobState.FAILED,
        started_at=now,
        ended_at=now,
        seconds=0.0,
        failure=Failure("not_submitted", message, (f"launch it again: {shlex.join(words)}",)),
    )
