"""The one entry of a job on every backend: `python -m nexa_infra.scheduling.job_entry SPEC --index N [--attempt K]`.

It reads its run from the spec, runs one attempt, and records the attempt, its log and, when no other attempt follows,
the outcome. It needs no supervisor: what it recorded stands when nobody is left to read it. Only where the run's folder
cannot take the record it is left in the file `--spare` names, for whoever started the entry to record later.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from nexa_contracts.clock import Clock, SystemClock
from nexa_contracts.errors import ConfigError, NexaError, StorageError
from nexa_contracts.exit_codes import CommandExit
from nexa_contracts.states import JobState
from nexa_infra.scheduling.entry import Entry, read_entry
from nexa_infra.scheduling.execution import WATCHED, Execution
from nexa_infra.scheduling.logs import keep_log
from nexa_infra.scheduling.records import Attempt, Failure, read_attempts, record_attempt, record_outcome
from nexa_infra.scheduling.resuming import find_start, tell_start
from nexa_infra.scheduling.settle import decide
from nexa_infra.scheduling.signals import SignalQueue
from nexa_infra.scheduling.spare import Spare
from nexa_infra.storage.atomic import append_line, make_folder

_ARRAY_INDEX = "SLURM_ARRAY_TASK_ID"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one attempt and return an exit status: 0 when it succeeded, else the program's own or 1."""
    # First of all: a signal that arrives while the interpreter still starts would end it without a record.
    with SignalQueue(WATCHED) as signals:
        try:
            options = _parse(sys.argv[1:] if argv is None else argv, os.environ)
            entry = read_entry(options.spec, options.index)
            attempt = run_attempt(
                entry, options.attempt, signals, environment=os.environ, clock=SystemClock(), spare=options.spare
            )
        except NexaError as error:
            _say(error)
            return error.exit_code
        except Exception as error:  # noqa: BLE001 - the last resort of an entry point; the supervisor settles the run
            _say(error)
            return CommandExit.FAILED
    if attempt is None or attempt.state is JobState.SUCCEEDED:
        return CommandExit.DONE
    return attempt.exit_code or CommandExit.FAILED


def run_attempt(
    entry: Entry,
    number: int | None,
    signals: SignalQueue,
    *,
    environment: Mapping[str, str],
    clock: Clock,
    spare: Spare | None = None,
) -> Attempt | None:
    """Run attempt `number` (None: the next one) and record it; return None when the run was settled already.

    Raises:
        StorageError: the attempt or the outcome cannot be recorded; the message says whether `spare` has the attempt.
    """
    earlier = read_attempts(entry.run_dir)
    number = number if number is not None else len(earlier) + 1
    if entry.outcome.exists() or number <= len(earlier):
        return None  # a second start of the same attempt, as after a node that was thought lost
    if spare is not None:
        spare.reserve()
    execution = Execution(entry=entry, attempt=number, environment=environment, clock=clock)
    try:
        make_folder(entry.run_dir.attempts)  # the program writes its result there
        log = execution.open_log()
    except StorageError as error:
        attempt = execution.fail(Failure("storage", error.message))
        if not _record(entry, attempt, spare):
            return attempt
    else:
        with log:
            attempt = _run(execution, signals, log)
            if not _record(entry, attempt, spare):
                return attempt  # someone settled it in our stead
            _keep_log(execution, log)
    attempts = [*earlier, attempt]
    decision = decide(attempts, max_retries=entry.max_retries)
    if not decision.again:
        record_outcome(entry, replace(attempt, state=decision.state), attempts=len(attempts))
    return attempt


def _run(execution: Execution, signals: SignalQueue, log: BinaryIO) -> Attempt:
    try:
        start = find_start(execution.entry, execution.attempt)
        for line in () if start is None else start.notes:
            append_line(execution.log, f"nexa: {line}".encode())
    except ConfigError as error:
        return execution.fail(Failure("bad_request", error.message))
    except StorageError as error:
        return execution.fail(Failure("storage", error.message))
    if start is None:
        return execution.run(signals, log)
    attempt = replace(execution, entry=tell_start(execution.entry, start)).run(signals, log)
    return replace(attempt, resumed_from=attempt.resumed_from or start.origin)


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
        _say(error)  # it stays on scratch, where `nexa logs` looks too; the outcome may still fit on the disk
    else:
        execution.log.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Options:
    spec: Path
    index: int
    attempt: int | None
    spare: Spare | None


def _parse(arguments: Sequence[str], environment: Mapping[str, str]) -> _Options:
    # By hand: argparse would be a tenth of what an entry costs, and only our own programs call this one.
    words = list(arguments)
    values = {"--index": environment.get(_ARRAY_INDEX, ""), "--attempt": "", "--spare": ""}
    for name in values:
        if name in words[:-1]:
            place = words.index(name)
            values[name] = words[place + 1]
            del words[place : place + 2]
    spare = values.pop("--spare")
    numbers_are_good = all(text == "" or text.isdecimal() for text in values.values())
    if len(words) != 1 or not values["--index"] or not numbers_are_good:
        found = " ".join(arguments)
        allowed = "SPEC --index N [--attempt K] [--spare FILE]"
        raise ConfigError(f"found {found!r}; allowed: {allowed}; N may come from ${_ARRAY_INDEX}")
    return _Options(
        spec=Path(words[0]),
        index=int(values["--index"]),
        attempt=int(values["--attempt"]) if values["--attempt"] else None,
        spare=Spare(Path(spare)) if spare else None,
    )


def _say(error: Exception) -> None:
    # One line for whoever reads the supervisor's or Slurm's log; a stack of ours explains nothing to them.
    kind = "" if isinstance(error, NexaError) else f"{type(error).__name__}: "
    print(f"job entry: {kind}{error}", file=sys.stderr, flush=True)  # noqa: T201 - an entry point


if __name__ == "__main__":
    sys.exit(main())
