"""What a job runs to train: `python -m nexa_train.run`, with the job described by its environment.

Its exit status is a WorkExit; what it did is in `attempts/<n>.result.json`.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys

from nexa_contracts.clock import Clock, SystemClock
from nexa_contracts.errors import NexaError, StorageError
from nexa_contracts.exit_codes import CommandExit, WorkExit
from nexa_contracts.run import WorkResult
from nexa_infra.storage.atomic import replace_file
from nexa_train.backends.ending import Ending, find_status, note_failure
from nexa_train.job import Job, read_job
from nexa_train.restarting import tell_crash
from nexa_train.signals import LeaveNow, LeaveRequest
from nexa_train.trackers import tracker_environment

logger = logging.getLogger(__name__)


def main() -> int:
    """Train what the environment asks for; return the WorkExit."""
    # A job entry asks for the stacks of a training that makes no step any more.
    faulthandler.register(signal.SIGUSR2, file=sys.stderr, all_threads=True)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        job = read_job(os.environ)
    except NexaError as error:
        _say(error)
        return WorkExit.BAD_REQUEST
    if not job.is_main:
        logging.getLogger().setLevel(logging.WARNING)  # the first one tells how it goes
    os.environ.update(tracker_environment(job, os.environ))
    with LeaveRequest() as leave:
        return train_job(job, leave, clock=SystemClock())


def train_job(job: Job, leave: LeaveRequest, *, clock: Clock) -> int:
    """Train one job with the backend its config names and record the result; return the WorkExit."""
    try:
        ending = _dispatch(job, leave, clock)
        status, result = int(ending.status), ending.result
    except NexaError as error:
        tell_crash(job, error)
        if job.is_main:
            _say(error)
            return _record(job, find_status(error), WorkResult(failure=note_failure(error)))
        _say(error, who=f"process {job.rank} on {os.uname().nodename}: ")  # it may be of this node alone
        return find_status(error)
    except Exception as error:
        tell_crash(job, error)
        raise
    except LeaveNow:
        logger.warning("asked to leave before there was anything to save run_id=%s", job.run_id)
        status, result = WorkExit.SAVED_AND_LEFT, WorkResult()
    return _record(job, status, result) if job.is_main else status


def _dispatch(job: Job, leave: LeaveRequest, clock: Clock) -> Ending:
    if job.train.training.backend == "axolotl":
        from nexa_train.backends import axolotl

        return axolotl.train(job, clock=clock)
    from nexa_train.backends import hf

    return hf.train(job, clock=clock, leave=leave)


def _record(job: Job, status: int, result: WorkResult) -> int:
    recorded = result.model_copy(update={"exit_code": int(status)})
    try:
        replace_file(job.run_dir.result(job.attempt), recorded.to_json().encode())
    except StorageError as error:
        # The log's last words are all that is left to tell of it. What was done is found done by the next attempt.
        said = f"{result.failure.message}; " if result.failure is not None else ""
        sys.stderr.write(f"{type(error).__name__}: {said}{error}\n")
        return int(status) or int(CommandExit.FAILED)
    return status


def _say(error: NexaError, *, who: str = "") -> None:
    sys.stderr.write(f"error: {who}{error}\n")


if __name__ == "__main__":
    sys.exit(main())
