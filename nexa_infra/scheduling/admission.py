"""Who may start now: pure arithmetic over cores, memory and GPUs.

Jobs start in the order they came. A later one passes an earlier one that does not fit only if it cannot delay it: it
ends before the earlier one could start at the latest (every attempt ends at its walltime), or it takes what is left
beside it even then. This is EASY backfilling: Lifka, "The ANL/IBM SP scheduling system", JSSPP 1995.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from nexa_infra.scheduling.machine import Machine


@dataclass(frozen=True, slots=True)
class Ask:
    """What one job holds while it runs."""

    cpus: int
    memory_bytes: int
    gpus: int = 0
    share_gpus: bool = False
    """Its GPUs may be held by other sharing jobs too."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the machine the job's site lets its jobs use; None: all of it."""

    cpus: int | None = None
    memory_bytes: int | None = None
    gpus: int | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that could start."""

    job_id: int
    ask: Ask
    limits: Limits
    longest_s: float
    """Its walltime and the grace after it."""


@dataclass(frozen=True, slots=True)
class Running:
    """A job that holds something."""

    ask: Ask
    gpus: tuple[int, ...]
    ends_by_s: float
    """Monotonic time at which it has ended at the latest."""


@dataclass(frozen=True, slots=True)
class Admission:
    """A job to start now, and the GPUs it gets."""

    job_id: int
    gpus: tuple[int, ...]


def explain_misfit(ask: Ask, machine: Machine, limits: Limits) -> str | None:
    """Return why a job can never run on this machine; None when it can."""
    room = _limit(machine, limits)
    if ask.cpus > room.cpus:
        return f"resources.cpus: asks for {ask.cpus} cores, and jobs here may use {room.cpus}"
    if ask.memory_bytes > room.memory_bytes:
        return f"resources.memory: asks for {_gib(ask.memory_bytes)}, and jobs here may use {_gib(room.memory_bytes)}"
    if ask.gpus > len(room.gpus):
        return f"resources.gpus_per_node: asks for {ask.gpus} GPUs, and jobs here may use {len(room.gpus)}"
    return None


def admit(waiting: Iterable[Waiting], running: Sequence[Running], machine: Machine, *, now_s: float) -> list[Admission]:
    """Return the jobs to start now, in the order of `waiting`, each with GPUs of its own or shared ones.

    A job that could never run must not be among `waiting`: it would hold up the rest for ever.
    """
    held = list(running)
    admitted: list[Admission] = []
    blocked: _Reservation | None = None
    for job in waiting:
        room = _limit(machine, job.limits)
        gpus = _place(job.ask, held, room)
        if gpus is None:
            if blocked is None:
                blocked = _reserve(job, held, room)
            continue
        if blocked is not None and not blocked.allows(job, machine, now_s):
            continue
        admitted.append(Admission(job_id=job.job_id, gpus=gpus))
        started = Running(ask=job.ask, gpus=gpus, ends_by_s=now_s + job.longest_s)
        held.append(started)
        if blocked is not None:
            blocked = blocked.with_started(started)
    return admitted


@dataclass(frozen=True, slots=True)
class _Reservation:
    """The first job that does not fit, and what still runs when it can start at the latest."""

    job: Waiting
    room: Machine
    start_by_s: float
    still_running: tuple[Running, ...]

    def allows(self, job: Waiting, machine: Machine, now_s: float) -> bool:
        if now_s + job.longest_s <= self.start_by_s:
            return True
        gpus = _place(job.ask, self.still_running, _limit(machine, job.limits))
        if gpus is None:
            return False
        beside = Running(ask=job.ask, gpus=gpus, ends_by_s=now_s + job.longest_s)
        return _place(self.job.ask, (*self.still_running, beside), self.room) is not None

    def with_started(self, started: Running) -> _Reservation:
        if started.ends_by_s <= self.start_by_s:
            return self
        return replace(self, still_running=(*self.still_running, started))


def _reserve(job: Waiting, held: Sequence[Running], room: Machine) -> _Reservation:
    by_end = sorted(held, key=lambda each: each.ends_by_s)
    for count, ended in enumerate(by_end, start=1):
        left = tuple(by_end[count:])
        if _place(job.ask, left, room) is not None:
            return _Reservation(job=job, room=room, start_by_s=ended.ends_by_s, still_running=left)
    # Not even an empty machine holds it (a GPU was lost since it was queued): it reserves nothing.
    return _Reservation(job=job, room=room, start_by_s=float("inf"), still_running=())


def _place(ask: Ask, held: Sequence[Running], room: Machine) -> tuple[int, ...] | None:
    if sum(each.ask.cpus for each in held) + ask.cpus > room.cpus:
        return None
    if sum(each.ask.memory_bytes for each in held) + ask.memory_bytes > room.memory_bytes:
        return None
    sharers = {gpu.index: 0 for gpu in room.gpus}
    for each in held:
        for index in each.gpus:
            if index in sharers and (not each.ask.share_gpus or not ask.share_gpus):
                del sharers[index]
            elif index in sharers:
                sharers[index] += 1
    chosen = sorted(sharers, key=lambda index: (sharers[index], index))[: ask.gpus]
    return tuple(sorted(chosen)) if len(chosen) == ask.gpus else None


def _limit(machine: Machine, limits: Limits) -> Machine:
    return Machine(
        cpus=_least(machine.cpus, limits.cpus),
        memory_bytes=_least(machine.memory_bytes, limits.memory_bytes),
        gpus=machine.gpus[: _least(len(machine.gpus), limits.gpus)],
    )


def _least(have: int, limit: int | None) -> int:
    return have if limit is None else min(have, limit)


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
