"""The record of an attempt whose machine went away, written by whoever comes after it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

from nexa_contracts.clock import Clock
from nexa_contracts.states import JobState
from nexa_infra.scheduling.ending import Leave
from nexa_infra.scheduling.entry import Entry
from nexa_infra.scheduling.evidence import pick_evidence, read_tail
from nexa_infra.scheduling.fence import Start, find_leaving
from nexa_infra.scheduling.logs import scratch_log
from nexa_infra.scheduling.records import Attempt, Failure
from nexa_infra.scheduling.spare import Spare
from nexa_infra.scheduling.stalls import StepReader


def find_spare(entry: Entry, number: int) -> Spare:
    """Return where a job on Slurm leaves the record of an attempt, from 1, that the shared tier does not take."""
    log = scratch_log(entry.scratch, entry.run_id, number)
    return Spare(log.with_name(f"{log.stem}.end.json"))


def describe_lost(entry: Entry, start: Start, *, secrets: Collection[str], clock: Clock) -> Attempt:
    """Return the record of an attempt that began and said nothing of its end.

    The last sign of life bounds what nobody was left to measure. An attempt that had been told to leave did not lose
    its machine by chance.
    """
    log = scratch_log(entry.scratch, entry.run_id, start.number)
    signs = [_modified(path) for path in (log, entry.run_dir.heartbeat, entry.run_dir.metrics)]
    last = max([start.started_at, *(sign for sign in signs if sign is not None)])
    ended_at = max(start.started_at, min(clock.now(), last))
    state, kind, message = _explain(find_leaving(entry.run_dir, start.number), start.hostname)
    return Attempt(
        run_id=entry.run_id,
        number=start.number,
        state=state,
        started_at=start.started_at,
        ended_at=ended_at,
        seconds=round((ended_at - start.started_at).total_seconds(), 6),
        hostname=start.hostname,
        step=StepReader(entry.run_dir, start.number, is_over=True).read().step,
        failure=Failure(kind, message, _read_evidence(log, secrets)),
    )


def _explain(leaving: Leave | None, hostname: str) -> tuple[JobState, str, str]:
    match leaving:
        case Leave.TIMED_OUT:
            return JobState.TIMED_OUT, "timed_out", "reached its time limit, and was killed before it had saved"
        case Leave.PREEMPTED | Leave.ASKED | Leave.CANCELLED:
            # A job that was cancelled does not start again: whoever noted that knew no better.
            return JobState.PREEMPTED, "preempted", "its place was taken, and it was killed before it had saved"
        case Leave.NODE_FAILED:
            return JobState.NODE_FAILED, "killed", "another node of its job went down, and it was killed"
        case None | Leave.PRUNED:
            return JobState.NODE_FAILED, "lost", f"{hostname} went down, or the job was killed, while it ran"


def _read_evidence(log: Path, secrets: Collection[str]) -> tuple[str, ...]:
    try:
        with log.open("rb") as stream:
            return pick_evidence(read_tail(stream), secrets)
    except OSError:
        return ()  # on a scratch of its own node


def _modified(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return None
