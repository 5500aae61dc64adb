"""A job's entry on Slurm: `python -m nexa_infra.scheduling.slurm_entry SPEC --offset N --rows R --warning USR1@120`.

It takes the rows of its array task one after another: those indices i of the spec with i // R == N + task. What crashes
is tried again in the same allocation; when that ends, the job is put back into the queue, and its next start goes on
with the rows that have no outcome.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nexa_contracts.clock import SystemClock
from nexa_contracts.errors import ConfigError, NexaError, NotFound
from nexa_contracts.exit_codes import CommandExit
from nexa_infra.process import SystemRunner
from nexa_infra.scheduling.attempting import say
from nexa_infra.scheduling.entry import Entry, find_entries
from nexa_infra.scheduling.listening import WATCHED
from nexa_infra.scheduling.row import RowEnd, RowRunner
from nexa_infra.scheduling.signals import SignalQueue
from nexa_infra.scheduling.slurm.elsewhere import Elsewhere
from nexa_infra.scheduling.slurm.nodes import NodeClient
from nexa_infra.scheduling.slurm.own_job import LimitWarning, OwnJob, SlurmListener

_ANSWER_S = 5.0
"""For the controller: a job that has to leave has half a minute, by default."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rows of this job; return 0 when they succeeded or are to go on later, else the last program's status."""
    # First of all: a signal that arrives while the interpreter still starts would end it without a record.
    with SignalQueue(WATCHED) as signals:
        try:
            options = _parse(sys.argv[1:] if argv is None else argv)
            job = OwnJob.from_environment(os.environ)
            clock = SystemClock()
            client = NodeClient(SystemRunner(), environment=os.environ, clock=clock, timeout_s=_ANSWER_S)
            listener = SlurmListener(signals, job=job, client=client, clock=clock, warning=options.warning)
            runner = RowRunner(
                listener,
                job=job,
                environment=os.environ,
                clock=clock,
                elsewhere=Elsewhere(client, job.job_id, clock=clock),
                is_shared=options.rows > 1,
            )
            return run_rows(options.find_rows(job.task), runner)
        except NexaError as error:
            say(error)
            return error.exit_code
        except Exception as error:  # noqa: BLE001 - the last resort of an entry point; the backend settles the runs
            say(error)
            return CommandExit.FAILED


def run_rows(entries: Sequence[Entry], runner: RowRunner) -> int:
    """Run each of these runs to its outcome, or put the job back into the queue; return an exit status.

    One whose files cannot be read or written keeps none of the others from running; the backend settles it.
    """
    status = 0
    for number, entry in enumerate(entries):
        try:
            end = runner.run(entry)
        except NexaError as error:
            say(error)
            status = error.exit_code
            continue
        if end is RowEnd.LEFT:
            return runner.leave(entries[number:])
        if end is RowEnd.FAILED:
            status = runner.status or CommandExit.FAILED
    return status


@dataclass(frozen=True, slots=True)
class _Options:
    spec: Path
    offset: int
    rows: int
    warning: LimitWarning

    def find_rows(self, task: int) -> list[Entry]:
        """Return the runs of one task of the array."""
        first = (self.offset + task) * self.rows
        entries = find_entries(self.spec, range(first, first + self.rows))
        if not entries:
            raise NotFound(f"{self.spec}: no entry {first} to {first + self.rows - 1}, the rows of task {task}")
        return entries


def _parse(arguments: Sequence[str]) -> _Options:
    # By hand: argparse would be a tenth of what an entry costs, and only our own script calls this one.
    words = list(arguments)
    values: dict[str, str] = {"--offset": "0", "--rows": "1", "--warning": "USR1@120"}
    for name in values:
        if name in words[:-1]:
            place = words.index(name)
            values[name] = words[place + 1]
            del words[place : place + 2]
    warning = LimitWarning.parse(values.pop("--warning"))
    are_good = all(text.isdecimal() for text in values.values()) and values["--rows"].strip("0")
    if len(words) != 1 or not are_good:
        allowed = "SPEC [--offset N] [--rows R] [--warning USR1@120], R from 1"
        raise ConfigError(f"found {' '.join(arguments)!r}; allowed: {allowed}")
    return _Options(Path(words[0]), int(values["--offset"]), int(values["--rows"]), warning)


if __name__ == "__main__":
    sys.exit(main())
