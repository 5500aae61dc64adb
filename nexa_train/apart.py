"""Training over nodes whose scratch is each node's own: what one needs of another's files goes over the network.

A checkpoint is the first process's folder. From the others come the states of their random generators; to them, when
they go on from one, comes all of it. Where all see one scratch, nothing of this happens.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nexa_contracts.errors import StorageError
from nexa_infra.storage.atomic import make_folder, storage_errors
from nexa_infra.storage.checkpoints import StartingPoint
from nexa_infra.storage.layout import CHECKPOINT_PREFIX, SEAL_NAME
from nexa_infra.storage.seal import verify_seal
from nexa_train.job import Job

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 64 * 1024**2


@dataclass(frozen=True, slots=True)
class Apart:
    """Which processes do not see the scratch of the first one; all processes hold the same."""

    ranks: frozenset[int] = frozenset()
    leaders: tuple[int, ...] = ()
    """One of them for each of their nodes."""

    def gather(self, folder: Path, job: Job) -> None:
        """Bring what the other processes saved of a checkpoint into the first one's folder. Every process calls it.

        Raises:
            StorageError: the first process's scratch is full, read-only or broken.
        """
        if not self.ranks:
            return
        import torch.distributed as dist

        own: dict[str, bytes] = {}
        if job.rank in self.ranks:
            own = {path.name: path.read_bytes() for path in folder.glob(f"*_{job.rank}.*")}
        gathered: list[dict[str, bytes]] | None = [{}] * job.world_size if job.is_main else None
        dist.gather_object(own, gathered)
        for name, data in (item for files in gathered or () for item in files.items()):
            with storage_errors(folder / name, "writing what another node saved"):
                (folder / name).write_bytes(data)
        dist.barrier()
        if job.rank in self.leaders:
            shutil.rmtree(folder, ignore_errors=True)  # of no use without the rest

    @contextmanager
    def deliver(self, start: StartingPoint, job: Job) -> Iterator[StartingPoint]:
        """Yield where this process goes on from: a copy on its own node while it does. Every process calls it.

        Raises:
            StorageError: this node's scratch is full, read-only or broken, or the copy is not what was sent.
        """
        if not self.ranks or start.folder is None:
            yield start
            return
        import torch.distributed as dist

        group = dist.new_group([0, *self.leaders], backend="gloo")
        here = job.checkpoints / f"{CHECKPOINT_PREFIX}{start.step}"
        if job.is_main:
            _send(start.folder, group)
        elif job.rank in self.leaders:
            _receive(here, group)
        dist.barrier()
        if job.rank in self.ranks:
            start = replace(start, folder=here)
        try:
            yield start
        finally:
            if job.rank in self.leaders:
                shutil.rmtree(here, ignore_errors=True)


def find_apart(job: Job) -> Apart:
    """Return which processes have a scratch of their own. Every process calls it, once torch knows the others.

    Only creating a file exclusively is answered by the server of a network file system and never from a cache.

    Raises:
        StorageError: scratch cannot be written.
    """
    if job.world_size == 1:
        return Apart()
    import torch.distributed as dist

    name = [f".seen-{secrets.token_hex(8)}"]
    dist.broadcast_object_list(name)
    probe = job.checkpoints / name[0]
    make_folder(probe.parent)
    if job.is_main:
        with storage_errors(probe, "writing"):
            probe.touch(exist_ok=False)
    dist.barrier()
    is_leader = _creates(probe)
    dist.barrier()
    # Of the processes of one node the first one creates it; the others then find it, and it is not the first node's.
    mine = (is_leader, _read_host())
    told: list[Any] = [None] * job.world_size
    dist.all_gather_object(told, mine)
    leaders = tuple(rank for rank, (is_first, _) in enumerate(told) if is_first)
    hosts = {told[rank][1] for rank in leaders}
    ranks = frozenset(rank for rank, (_, host) in enumerate(told) if host in hosts)
    if job.is_main or is_leader:
        probe.unlink(missing_ok=True)
    if job.is_main and ranks:
        logger.info("%d nodes have a scratch of their own run_id=%s", len(leaders), job.run_id)
    return Apart(ranks, leaders)


def _creates(probe: Path) -> bool:
    try:
        with storage_errors(probe, "writing"):
            os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    except StorageError as error:
        if isinstance(error.__cause__, FileExistsError):
            return False
        raise
    return True


def _read_host() -> str:
    """Return what processes of one machine have in common and no others do, whatever the machine calls itself."""
    return f"{os.uname().nodename} {Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"


def _send(folder: Path, group: Any) -> None:
    import torch
    import torch.distributed as dist

    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    listing = [[(str(path.relative_to(folder)), path.stat().st_size) for path in paths]]
    dist.broadcast_object_list(listing, group=group)
    for path in paths:
        with storage_errors(path, "reading"), path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                dist.broadcast(torch.frombuffer(bytearray(chunk), dtype=torch.uint8), src=0, group=group)


def _receive(folder: Path, group: Any) -> None:
    import torch
    import torch.distributed as dist

    listing: list[Any] = [None]
    dist.broadcast_object_list(listing, group=group)
    shutil.rmtree(folder, ignore_errors=True)
    for name, size in listing[0]:
        path = folder / name
        with storage_errors(path, "writing"):
            make_folder(path.parent)
            with path.open("wb") as stream:
                for begin in range(0, size, _CHUNK_BYTES):
                    chunk = torch.empty(min(_CHUNK_BYTES, size - begin), dtype=torch.uint8)
                    dist.broadcast(chunk, src=0, group=group)
                    stream.write(chunk.numpy().data)
    if (folder / SEAL_NAME).is_file():
        verify_seal(folder)
