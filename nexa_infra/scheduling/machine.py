"""What this machine has to hand out: cores, memory and GPUs, as this process may use them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from nexa_contracts.errors import CommandMissing, ExternalError, UnreadableReply
from nexa_infra.process import CommandRunner

_GPU_QUERY = ("nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits")
_GPU_TIMEOUT_S = 30.0
"""A driver that was idle takes seconds to wake; one that is hung never answers."""
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as the driver lists it."""

    index: int
    uuid: str
    name: str
    memory_mib: int | None
    """None: the driver does not say (shared memory)."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The most that jobs on this machine may hold together."""

    cpus: int
    memory_bytes: int
    gpus: tuple[Gpu, ...] = ()


def read_machine(runner: CommandRunner, *, with_gpus: bool = True) -> Machine:
    """Return what this process may use; a machine without `nvidia-smi` has no GPUs.

    `with_gpus` False does not ask for them, which saves the driver's seconds.

    Raises:
        ExternalError: nvidia-smi failed, hangs, or printed what cannot be read.
    """
    gpus = _list_gpus(runner) if with_gpus else ()
    return Machine(cpus=_count_cpus(), memory_bytes=_read_memory_bytes(), gpus=gpus)


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """Return the GPUs in the reply of `nvidia-smi --query-gpu=index,uuid,name,memory.total`.

    Raises:
        UnreadableReply: a line is not index, uuid, name and MiB.
    Source: nvidia-smi --help-query-gpu; memory is `[N/A]` where it is shared with the host.
    """
    gpus: list[Gpu] = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if fields == [""]:
            continue
        if len(fields) < 4 or not fields[0].isdecimal():
            raise UnreadableReply(f"nvidia-smi: found {line.strip()[:120]!r}; expected index, uuid, name, MiB")
        memory = int(fields[-1]) if fields[-1].isdecimal() else None
        gpus.append(Gpu(index=int(fields[0]), uuid=fields[1], name=", ".join(fields[2:-1]), memory_mib=memory))
    return tuple(sorted(gpus, key=lambda gpu: gpu.index))


def _list_gpus(runner: CommandRunner) -> tuple[Gpu, ...]:
    try:
        reply = runner.run(_GPU_QUERY, timeout_s=_GPU_TIMEOUT_S)
        if reply.returncode == 6 or "No devices were found" in reply.stdout + reply.stderr:
            return ()  # Source: nvidia-smi(1), return values: 6 is a query that found no object.
        return parse_gpus(reply.require_success().stdout)
    except CommandMissing:
        return ()
    except ExternalError as error:
        hint = "run `nvidia-smi` by hand; a driver that does not answer needs a reboot"
        raise type(error)(error.message, hint=hint) from error


def _count_cpus() -> int:
    cpus = len(os.sched_getaffinity(0))
    quota = _read_text(_CGROUP / "cpu.max").split()
    if len(quota) == 2 and quota[0].isdecimal() and int(quota[1]) > 0:
        # A container of 3.5 cores hands out 4: a trial that computes less than its share is better than an idle one.
        return max(1, min(cpus, -(-int(quota[0]) // int(quota[1]))))
    return cpus


def _read_memory_bytes() -> int:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        limit = _read_text(_CGROUP / name)
        if limit.isdecimal():
            return min(total, int(limit))
    return total


def _read_text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""  # not a container, or another version of control groups
