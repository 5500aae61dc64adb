"""The records of a run's attempts and its outcome, written and read without pydantic.

A job entry lives for each job and the supervisor for all of them; pydantic would cost each 0.13 s of CPU and 20 MiB.
The contracts `AttemptRecord` and `RunOutcome` say what the files hold, and the tests read ours through them.
"""

from __future__ import annotations

import json
import math
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nexa_contracts.errors import AlreadyExists, StorageError
from nexa_contracts.states import FINAL_STATES, JobState
from nexa_infra.scheduling.entry import Entry
from nexa_infra.storage.atomic import create_file
from nexa_infra.storage.journal import create_journaled
from nexa_infra.storage.metrics import collect_last_values
from nexa_infra.storage.points import find_point
from nexa_infra.storage.run_dir import RunDir

_ENDED = {state.value: state for state in (*FINAL_STATES, JobState.PREEMPTED)}
"""How an attempt may end."""
_LARGEST_BYTES = 16 * 1024**2


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt ended badly; `FailureNote` says what the kinds are."""

    kind: str
    message: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One execution of a run, as `AttemptRecord` has it."""

    run_id: str
    number: int
    state: JobState
    started_at: datetime
    ended_at: datetime
    seconds: float
    exit_code: int | None = None
    signal: int | None = None
    hostname: str = ""
    resumed_from: str | None = None
    step: int | None = None
    rank_restarts: int = 0
    pruned_at_step: int | None = None
    failure: Failure | None = None


def record_attempt(run_dir: RunDir, attempt: Attempt) -> bool:
    """Create the record of an attempt; return False when it has one already, which then holds.

    Raises:
        StorageError: the disk is full, read-only or broken.
    """
    try:
        create_file(run_dir.attempt(attempt.number), encode_attempt(attempt))
    except AlreadyExists:
        return False
    return True


def encode_attempt(attempt: Attempt) -> bytes:
    """Return the text of an attempt's record."""
    return _encode(
        {
            "schema_version": 1,
            "run_id": attempt.run_id,
            "number": attempt.number,
            "state": attempt.state.value,
            "started_at": _time(attempt.started_at),
            "ended_at": _time(attempt.ended_at),
            "seconds": attempt.seconds,
            "exit_code": attempt.exit_code,
            "signal": attempt.signal,
            "hostname": attempt.hostname,
            "resumed_from": attempt.resumed_from,
            "step": attempt.step,
            "pruned_at_step": attempt.pruned_at_step,
            "rank_restarts": attempt.rank_restarts,
            "failure": _failure(attempt.failure),
        }
    )


def find_attempt(run_dir: RunDir, number: int) -> Attempt | None:
    """Return the record of an attempt; None while it has none.

    A file that is damaged, or never was a record, counts as a crash: it must not hold up the queue for ever.

    Raises:
        StorageError: the disk does not let us read it now.
    """
    path = run_dir.attempt(number)
    try:
        return parse_attempt(read_regular(path))
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        return _describe_damaged(run_dir, number, f"{path}: cannot be read as an attempt's record: {error}")
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error


def parse_attempt(text: bytes) -> Attempt:
    """Return the attempt of a record.

    Raises:
        ValueError, LookupError, TypeError, AttributeError, RecursionError: the text is none.
    """
    found = json.loads(text)
    failure = found.get("failure")
    return Attempt(
        run_id=found["run_id"],
        number=found["number"],
        state=_ENDED[found["state"]],
        started_at=datetime.fromisoformat(found["started_at"]),
        ended_at=datetime.fromisoformat(found["ended_at"]),
        seconds=float(found["seconds"]),
        exit_code=found.get("exit_code"),
        signal=found.get("signal"),
        hostname=found.get("hostname", ""),
        resumed_from=found.get("resumed_from"),
        step=found.get("step"),
        pruned_at_step=found.get("pruned_at_step"),
        rank_restarts=int(found.get("rank_restarts", 0)),
        failure=failure and Failure(failure["kind"], failure["message"], tuple(failure.get("evidence", ()))),
    )


def read_regular(path: Path) -> bytes:
    """Return the content of a file that a program inside a job may have put there.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read.
        ValueError: it is no file, which reading could wait on for ever, or larger than any record.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise ValueError("not a regular file")
    with path.open("rb") as stream:
        data = stream.read(_LARGEST_BYTES + 1)
    if len(data) > _LARGEST_BYTES:
        raise ValueError(f"larger than {_LARGEST_BYTES >> 20} MiB")
    return data


def _describe_damaged(run_dir: RunDir, number: int, message: str) -> Attempt:
    written = datetime.fromtimestamp(run_dir.attempt(number).lstat().st_mtime, UTC)
    return Attempt(
        run_id=run_dir.path.name,
        number=number,
        state=JobState.FAILED,
        started_at=written,
        ended_at=written,
        seconds=0.0,
        failure=Failure("storage", message),
    )


def read_attempts(run_dir: RunDir) -> list[Attempt]:
    """Return the records of all attempts that ended, in their order.

    Raises:
        StorageError: one cannot be read.
    """
    attempts: list[Attempt] = []
    while (attempt := find_attempt(run_dir, len(attempts) + 1)) is not None:
        attempts.append(attempt)
    return attempts


def find_result(run_dir: RunDir, number: int) -> dict[str, Any] | None:
    """Return what the program inside said of its own work (`WorkResult`); None when it said nothing.

    Raises:
        StorageError: it wrote something else.
    """
    path = run_dir.result(number)
    try:
        text = read_regular(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise StorageError(f"{path}: {error}") from error
    # The program is not ours, so its file is judged in full; only programs that wrote one pay for pydantic.
    from nexa_contracts.errors import ConfigError
    from nexa_contracts.run import WorkResult

    try:
        return WorkResult.from_json(text, source=str(path)).model_dump(mode="json")
    except ConfigError as error:
        raise StorageError(error.message) from error


def record_outcome(entry: Entry, last: Attempt, *, attempts: int) -> bool:
    """Create the outcome of a run from its attempts; return False when it has one already, which then holds.

    What its program concluded comes from its newest result, and what it only said from its metrics. `last` says how
    the run ended; it need not have a record of its own (a job cancelled before it started).

    Raises:
        StorageError: the disk is full, read-only or broken, or a record of the run cannot be read.
    """
    run_dir = entry.run_dir
    return _create_outcome(
        entry.outcome,
        last,
        {
            "sweep_id": entry.sweep_id,
            "index": entry.index if entry.sweep_id is not None else None,
            "attempts": attempts,
            "seconds": math.fsum(attempt.seconds for attempt in read_attempts(run_dir)),
            **_sum_up(run_dir, attempts),
            "point": find_point(run_dir),
        },
    )


def record_unstarted(path: Path, last: Attempt) -> bool:
    """Create the outcome of a single run that no backend ever held; return False when it has one already.

    Raises:
        StorageError: the disk is full, read-only or broken.
    """
    nothing: dict[str, Any] = {"steps": None, "tokens": None, "metrics": {}, "artifacts": [], "point": {}}
    return _create_outcome(path, last, {"sweep_id": None, "index": None, "attempts": 0, "seconds": 0.0, **nothing})


def _create_outcome(path: Path, last: Attempt, reached: dict[str, Any]) -> bool:
    data = {
        "schema_version": 1,
        "run_id": last.run_id,
        "sweep_id": reached["sweep_id"],
        "index": reached["index"],
        "state": last.state.value,
        "ended_at": _time(last.ended_at),
        **reached,
        "pruned_at_step": last.pruned_at_step,
        "failure": _failure(last.failure),
    }
    try:
        create_journaled(path, _encode(data))
    except AlreadyExists:
        return False
    return True


def _sum_up(run_dir: RunDir, attempts: int) -> dict[str, Any]:
    number, result = attempts, None
    while number and (result := _find_usable_result(run_dir, number)) is None:
        number -= 1
    result = result or {}
    # A program that was killed, or is none of ours, concludes nothing, or not everything; what it said last is then all
    # there is.
    concluded = result.get("metrics", {})
    said = collect_last_values(run_dir.metrics)
    later = collect_last_values(run_dir.metrics, after_attempt=number) if concluded else said
    steps, tokens = (result.get("steps"), said.steps), (result.get("tokens"), said.tokens)
    return {
        "steps": max((count for count in steps if count is not None), default=None),
        "tokens": max((count for count in tokens if count is not None), default=None),
        "metrics": {**said.metrics, **concluded, **later.metrics},
        "artifacts": result.get("artifacts", []),
    }


def _find_usable_result(run_dir: RunDir, number: int) -> dict[str, Any] | None:
    try:
        return find_result(run_dir, number)
    except StorageError:
        return None  # the attempt's own record names it as its failure


def _failure(failure: Failure | None) -> dict[str, Any] | None:
    if failure is None:
        return None
    return {"kind": failure.kind, "message": failure.message, "evidence": list(failure.evidence)}


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _encode(data: dict[str, Any]) -> bytes:
    return (json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
