"""The entry of a job on one machine: `python -m nexa_infra.scheduling.job_entry SPEC --index N [--attempt K]`.

It reads its run from the spec, runs one attempt, and records the attempt, its log and, when no other attempt follows,
the outcome. It needs no supervisor: what it recorded stands when nobody is left to read it. Only where the run's folder
cannot take the record it is left in the file `--spare` names, for whoever started the entry to record later.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nexa_contracts.clock import SystemClock
from nexa_contracts.errors import ConfigError, NexaError
from nexa_contracts.exit_codes import CommandExit
from nexa_contracts.states import JobState
from nexa_infra.scheduling.attempting import Surroundings, run_attempt, say
from nexa_infra.scheduling.entry import read_entry
from nexa_infra.scheduling.listening import WATCHED, Listener
from nexa_infra.scheduling.signals import SignalQueue
from nexa_infra.scheduling.spare import Spare

_ARRAY_INDEX = "SLURM_ARRAY_TASK_ID"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one attempt and return an exit status: 0 when it succeeded, else the program's own or 1."""
    # First of all: a signal that arrives while the interpreter still starts would end it without a record.
    with SignalQueue(WATCHED) as signals:
        try:
            options = _parse(sys.argv[1:] if argv is None else argv, os.environ)
            entry = read_entry(options.spec, options.index)
            around = Surroundings(environment=os.environ, clock=SystemClock(), spare=options.spare)
            attempted = run_attempt(entry, options.attempt, Listener(signals), around=around)
        except NexaError as error:
            say(error)
            return error.exit_code
        except Exception as error:  # noqa: BLE001 - the last resort of an entry point; the supervisor settles the run
            say(error)
            return CommandExit.FAILED
    if attempted is None or attempted.attempt.state is JobState.SUCCEEDED:
        return CommandExit.DONE
    return attempted.attempt.exit_code or CommandExit.FAILED


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


if __name__ == "__main__":
    sys.exit(main())
