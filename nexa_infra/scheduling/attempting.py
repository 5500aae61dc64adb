"""One attempt of a run from its beginning to its record, on whichever backend."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import BinaryIO

from nexa_contracts.clock import Clock
from nexa_contracts.errors import ConfigError, MissingExtra, NexaError, NotFound, StorageError
from nexa_infra.scheduling.adaptive.telling import tell_sweep
from nexa_infra.scheduling.adaptive.trial import enter_trial
from nexa_infra.scheduling.blaming import record_fault
from nexa_infra.scheduling.config_file import provide_config
from nexa_infra.scheduling.ending import Leave
from nexa_infra.scheduling.entry import Entry, locate_project
from nexa_infra.scheduling.execution import Execution
from nexa_infra.scheduling.listening import Listener
from nexa_infra.scheduling.logs import keep_log
from nexa_infra.scheduling.records import Attempt, Failure, read_attempts, record_attempt, record_outcome
from nexa_infra.scheduling.resuming import find_start, tell_start
from nexa_infra.scheduling.settle import Decision, decide
from nexa_infra.scheduling.spare import Spare
from nexa_infra.storage.atomic import append_line, make_folder
from nexa_infra.storage.fence import Fence


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What an attempt gets from whoever starts it."""

    environment: Mapping[str, str]
    clock: Clock
    spare: Spare | None = None
    """Where its record waits when the run's folder cannot take it."""
    longest_s: float | None = None
    """What is left of the job around it; None: the run's own walltime counts."""
    note_leaving: Callable[[Leave], None] | None = None
    fence: Fence | None = None
    """Where a later attempt may begin while this one goes on."""


@dataclass(frozen=True, slots=True)
class Attempted:
    """An attempt that ended."""

    attempt: Attempt
    decision: Decision | None
    """What follows; None when that is for another to decide: someone settled it in our stead, or nobody could yet."""


def run_attempt(entry: Entry, number: int | None, listener: Listener, *, around: Surroundings) -> Attempted | None:
    """Run attempt `number` (None: the next one) and record it; return None when the run was settled already.

    Raises:
        StorageError: the attempt or the outcome cannot be recorded; the message says whether the spare has the attempt.
    """
    earlier = read_attempts(entry.run_dir)
    number = number if number is not None else len(earlier) + 1
    if entry.outcome.exists() or number <= len(earlier):
        return None  # a second start of the same attempt, as after a node that was thought lost
    if around.spare is not None:
        around.spare.reserve()
    execution = Execution(
        entry=entry,
        attempt=number,
        environment=around.environment,
        clock=around.clock,
        longest_s=around.longest_s,
        note_leaving=around.note_leaving,
        fence=around.fence,
    )
    try:
        make_folder(entry.run_dir.attempts)  # the program writes its result there
        log = execution.open_log()
    except StorageError as error:
        attempt = execution.fail(Failure("storage", error.message))
        if not _record(entry, attempt, around.spare):
            return Attempted(attempt, None)
    else:
        with log:
            attempt = _run(execution, listener, log)
            if not _record(entry, attempt, around.spare):
                return Attempted(attempt, None)
            _keep_log(execution, log)
    return Attempted(attempt, conclude(entry, [*earlier, attempt]))


def conclude(entry: Entry, attempts: list[Attempt]) -> Decision:
    """Return what follows the last of a run's attempts, after recording the outcome when none does.

    Raises:
        StorageError: the outcome cannot be recorded.
    """
    decision = decide(attempts, entry)
    record_fault(entry, attempts[-1])
    if not decision.again and record_outcome(entry, decision.conclude(attempts[-1]), attempts=len(attempts)):
        _tell_study(entry)
    return decision


def say(error: Exception) -> None:
    """Print an error on one line for whoever reads the supervisor's or Slurm's log; a stack of ours explains nothing
    to them.
    """
    kind = "" if isinstance(error, NexaError) else f"{type(error).__name__}: "
    print(f"job entry: {kind}{error}", file=sys.stderr, flush=True)  # noqa: T201 - an entry point's


def _run(execution: Execution, listener: Listener, log: BinaryIO) -> Attempt:
    try:
        execution = replace(execution, trial=enter_trial(execution.entry, clock=execution.clock))
        provide_config(execution.entry)
        start = find_start(execution.entry, execution.attempt)
        for line in () if start is None else start.notes:
            append_line(execution.log, f"nexa: {line}".encode())
    except (ConfigError, NotFound, MissingExtra) as error:
        return execution.fail(Failure("bad_request", error.message))
    except StorageError as error:
        return execution.fail(Failure("storage", error.message))
    if start is None:
        return execution.run(listener, log)
    attempt = replace(execution, entry=tell_start(execution.entry, start)).run(listener, log)
    return replace(attempt, resumed_from=attempt.resumed_from or start.origin)


def _tell_study(entry: Entry) -> None:
    if entry.study is None or entry.sweep_id is None:
        return
    try:
        tell_sweep(entry.study, locate_project(entry.manifests_dir), entry.sweep_id)
    except NexaError as error:
        say(error)  # the outcome says it all: whoever enters the next trial tells the study


def _record(entry: Entry, attempt: Attempt, spare: Spare | None) -> bool:
    try:
        is_ours = record_attempt(entry.run_dir, attempt)
    except StorageError as error:
        if spare is None:
            raise
        # What was measured must not wait for room: whoever records it later would measure the waiting too.
        try:
            spare.keep(attempt)
        except StorageError as second:
            raise StorageError(f"{error.message}; {second.message}") from error
        raise StorageError(f"{error.message}; until it can be, the record is in {spare.path}") from error
    if spare is not None:
        spare.discard()
    return is_ours


def _keep_log(execution: Execution, log: BinaryIO) -> None:
    try:
        keep_log(log, execution.entry.run_dir.log(execution.attempt), hidden=execution.secrets)
    except StorageError as error:
        say(error)  # it stays on scratch, where `nexa logs` looks too; the outcome may still fit on the disk
    else:
        execution.log.unlink(missing_ok=True)
