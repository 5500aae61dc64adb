"""Who may run a run: one job of a cluster, and of that job one attempt at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from nexa_contracts.clock import Clock
from nexa_contracts.errors import AlreadyExists, StorageError
from nexa_infra.health.naming import own_name
from nexa_infra.scheduling.ending import Leave
from nexa_infra.scheduling.records import read_regular
from nexa_infra.scheduling.succession import note_process
from nexa_infra.storage.atomic import create_file, replace_file
from nexa_infra.storage.fence import Fence
from nexa_infra.storage.run_dir import RunDir

_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Owner:
    """A job of a cluster. Its id alone does not name it: a controller that crashed gives ids out again."""

    cluster: str
    job_id: str
    """As `123`, or `123_4` for a task of an array."""
    name: str


@dataclass(frozen=True, slots=True)
class Start:
    """An attempt that was begun."""

    number: int
    started_at: datetime
    hostname: str
    restarts: int
    process: Mapping[str, Any] = field(default_factory=dict)
    """Of whoever began it, as `succession` notes it."""


def claim_run(run_dir: RunDir, owner: Owner, *, clock: Clock) -> Owner:
    """Return the job that the run belongs to: this one when nobody had it before, and then for ever.

    A job that is started again is the same one.

    Raises:
        StorageError: the run's folder cannot be read or written, or what stands there names no job.
    """
    try:
        create_file(run_dir.owner, _encode({**asdict(owner), "claimed_at": clock.now().isoformat()}))
    except AlreadyExists:
        return _read_owner(run_dir)
    return owner


def _read_owner(run_dir: RunDir) -> Owner:
    path = run_dir.owner
    try:
        found = json.loads(read_regular(path))
        return Owner(cluster=found["cluster"], job_id=found["job_id"], name=found["name"])
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error
    except _UNREADABLE as error:
        raise StorageError(f"{path}: damaged: {error}", hint="resume the sweep: the run gets a new id") from error


def start_attempt(
    run_dir: RunDir, number: int, *, restarts: int, clock: Clock, host: str | None = None
) -> Fence | None:
    """Return the fence of an attempt, raised; None when another process has begun this or a later one.

    The number is taken by a file of its own, created exclusively. The fence is written after it: whoever wrote it
    late, as a process that slept in between, finds the next number taken and leaves. `host` is this node as the cluster
    calls it; None: it has no other name than the machine's own.

    Raises:
        StorageError: the run's folder cannot be read or written.
    """
    fence = Fence(run_dir, number, os.urandom(16).hex())
    begun = {
        "started_at": clock.now().isoformat(),
        "hostname": host or own_name({}, os.uname().nodename),
        "restarts": restarts,
    }
    begun["process"] = note_process()
    try:
        create_file(run_dir.start(number), _encode({"attempt": number, "token": fence.token, **begun}))
    except AlreadyExists:
        return None
    replace_file(run_dir.fence, _encode({"attempt": number, "token": fence.token}))
    return None if run_dir.start(number + 1).exists() else fence


def raise_fence(run_dir: RunDir, number: int) -> None:
    """Let no attempt before that number write any more, while nobody has begun that one.

    Raises:
        StorageError: the run's folder cannot be written.
    """
    replace_file(run_dir.fence, _encode({"attempt": number, "token": os.urandom(16).hex()}))


def find_start(run_dir: RunDir, number: int) -> Start | None:
    """Return when and where an attempt was begun; None when it was not.

    Raises:
        StorageError: the disk does not let us read it.
    """
    path = run_dir.start(number)
    try:
        found = json.loads(read_regular(path))
        return Start(
            number=number,
            started_at=datetime.fromisoformat(found["started_at"]),
            hostname=str(found["hostname"]),
            restarts=int(found["restarts"]),
            process=dict(found.get("process", {})),
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error
    except _UNREADABLE as error:
        raise StorageError(f"{path}: damaged: {error}", hint="resume the sweep: the run gets a new id") from error


def note_leaving(fence: Fence, why: Leave) -> None:
    """Write down why the attempt was told to leave: it may be killed before it can record that itself.

    Raises:
        StorageError: the run's folder cannot be written.
    """
    replace_file(fence.run_dir.leaving(fence.attempt), _encode({"why": why.value}))


def find_leaving(run_dir: RunDir, number: int) -> Leave | None:
    """Return why an attempt was told to leave; None when it was not, or nobody knows."""
    try:
        return Leave(json.loads(read_regular(run_dir.leaving(number)))["why"])
    except (OSError, *_UNREADABLE):
        return None


def _encode(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, ensure_ascii=False) + "\n").encode()
