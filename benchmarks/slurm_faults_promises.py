"""What was promised of every row, looked up in the evidence that the rows swore and in the project's records."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm_faults_program import EVERY, KINDS, LEFT, describe_row, digest_steps
from slurm_faults_site import FaultSite

from nexa_contracts.run import AttemptRecord, RunManifest, RunOutcome
from nexa_contracts.states import JobState
from nexa_infra.operations.goodput import account_run
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import find_outcome, read_attempts, read_run_manifest

_CRASHED = (JobState.FAILED, JobState.NODE_FAILED)
_WALL_SHARE = 0.01


@dataclass(frozen=True)
class Record:
    """All that the project says of a run."""

    manifest: RunManifest
    attempts: Sequence[AttemptRecord]
    outcome: RunOutcome

    @property
    def run_id(self) -> str:
        return self.manifest.run_id

    def count(self, *states: JobState) -> int:
        """Return how many attempts ended in one of these states."""
        return sum(attempt.state in states for attempt in self.attempts)


def read_record(project: Project, run_id: str) -> Record | None:
    """Return what is recorded of a run; None when it has no outcome."""
    outcome = find_outcome(project, run_id)
    if outcome is None:
        return None
    return Record(read_run_manifest(project, run_id), tuple(read_attempts(project, run_id)), outcome)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file with one a line; a line that was cut off is left out."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def check_runs(site: FaultSite) -> Iterator[str]:
    """Yield a line for each promise that a run of the project broke."""
    for run_id in site.run_ids():
        record = read_record(site.project, run_id)
        if record is None:
            yield f"{run_id}: never ended"
            continue
        for line in (*_check_records(site.project, record), *_check_work(site, record)):
            yield f"{record.manifest.name} {run_id}: {line}"


def check_submissions(site: FaultSite) -> Iterator[str]:
    """Yield a line for each thing that Slurm was ever given twice."""
    for name, ids in sorted(site.seen.items()):
        if name != "urgent" and len(ids) > 1:
            yield f"{name}: submitted {len(ids)} times: {', '.join(sorted(ids))}"


def check_leftovers(site: FaultSite) -> Iterator[str]:
    """Yield a line for each process and job that is still there."""
    for process, run_id in site.processes():
        yield f"{run_id}: still running: {process.pid} {' '.join(process.cmdline())[:120]}"
    for line in site.ask("squeue", "-h", "-o", "%i %j %T %r").splitlines():
        yield f"still in the queue: {line}"


def _check_records(project: Project, record: Record) -> Iterator[str]:
    config, outcome = record.manifest.config, record.outcome
    numbers = [attempt.number for attempt in record.attempts]
    if numbers != list(range(1, len(numbers) + 1)) or outcome.attempts != len(numbers):
        yield f"attempts {numbers}, and {outcome.attempts} by its outcome"
    budgets = {
        "crashes": (record.count(*_CRASHED), config.max_retries),
        "time-outs": (record.count(JobState.TIMED_OUT), config.max_time_outs),
        "preemptions": (record.count(JobState.PREEMPTED), config.max_preemptions),
    }
    for name, (count, most) in budgets.items():
        if count > most + 1:
            yield f"{count} {name}, with a budget of {most}"
    goodput = account_run(project, record.manifest, attempts=record.attempts, outcome=outcome)
    wall_s = (outcome.ended_at - record.manifest.created_at).total_seconds()
    if goodput is not None and abs(goodput.wall_s - wall_s) > _WALL_SHARE * wall_s:
        yield f"its time adds up to {goodput.wall_s:.1f} s of {wall_s:.1f} s"
    wanted = _expect(record)
    if outcome.state is not wanted:
        why = "" if outcome.failure is None else f": {outcome.failure.kind}: {outcome.failure.message}"
        yield f"ended {outcome.state}, not {wanted}, after {_tell(record)}{why}"


def _expect(record: Record) -> JobState:
    config = record.manifest.config
    if record.count(*_CRASHED) > config.max_retries and record.attempts:
        return record.attempts[-1].state
    if record.count(JobState.TIMED_OUT) > config.max_time_outs:
        return JobState.TIMED_OUT
    return JobState(KINDS[find_kind(record.manifest)])


def find_kind(manifest: RunManifest) -> str:
    """Return the kind of a row; a training is a plain one."""
    return "plain" if manifest.config.command is None else describe_row(manifest.config.params)[0]


def _tell(record: Record) -> str:
    counts = Counter(str(attempt.state) for attempt in record.attempts)
    return ", ".join(f"{count} x {state}" for state, count in counts.items()) or "no attempt"


def _check_work(site: FaultSite, record: Record) -> Iterator[str]:
    if record.manifest.config.command is None:
        yield from _check_training(site, record)
        return
    lines = read_lines(site.evidence / f"{record.run_id}.jsonl")
    yield from _check_turns(lines)
    yield from _check_places(lines)
    yield from _check_done(lines, record)


def _check_training(site: FaultSite, record: Record) -> Iterator[str]:
    events = read_lines(site.project.run_dir(record.run_id).events)
    numbers = [event["attempt"] for event in events]
    if numbers != sorted(numbers):
        yield "an attempt told of its time after its successor had begun"
    if record.outcome.state is JobState.SUCCEEDED and not record.outcome.artifacts:
        yield "succeeded without a model"


def _check_turns(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    # One process after another, and each attempt one process.
    processes: dict[tuple[int, str, int], list[dict[str, Any]]] = {}
    for line in lines:
        processes.setdefault((line["attempt"], line["host"], line["pid"]), []).append(line)
    turns = list(processes.items())
    for (one, before), (other, after) in itertools.pairwise(turns):
        if before[-1]["monotonic_s"] >= after[0]["monotonic_s"]:
            ahead_s = before[-1]["monotonic_s"] - after[0]["monotonic_s"]
            yield f"ran twice at a time: {one} for {ahead_s:.2f} s beside {other}"
    yield from (f"ran twice at a time: its lock was held at {line}" for line in lines if line["event"] == "twice")
    started = Counter(line["attempt"] for line in lines if line["event"] == "start")
    yield from (f"attempt {number} was started {count} times" for number, count in started.items() if count > 1)


def _check_places(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    reached, has_left = 0, False
    for line in lines:
        lost = reached - int(line.get("step", reached))
        if line["event"] == "start" and lost > (0 if has_left else EVERY + 1):
            yield f"attempt {line['attempt']} lost {lost} steps{' that were saved' if has_left else ''}"
        if line["event"] == "start":
            reached = int(line["step"])
        has_left = line["event"] == "left" and line["status"] == LEFT
        reached = max(reached, int(line.get("step", 0)))


def _check_done(lines: Sequence[dict[str, Any]], record: Record) -> Iterator[str]:
    done = [place for place, line in enumerate(lines) if line["event"] == "done"]
    is_success = record.outcome.state is JobState.SUCCEEDED
    if len(done) != int(is_success) and not (done and record.outcome.state is JobState.CANCELLED):
        yield f"ended {record.outcome.state} and was done {len(done)} times"
    if done and done[-1] != len(lines) - 1:
        yield "was started again after it was done"
    if done:
        params = record.manifest.config.params
        row, steps = int(str(params["row"])), describe_row(params)[1]
        last = lines[done[-1]]
        if (last["step"], last["value"]) != (steps, digest_steps(row, steps)):
            yield f"came to another value after step {last['step']} of {steps}"
