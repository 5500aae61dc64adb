"""The supervisor of the local queue: `python -m nexa_infra.scheduling.supervisor STATE_DIR`.

One per user and machine. It starts jobs when there is room, passes on cancellations, settles jobs that ended, and
leaves when nothing is left. Its own end changes nothing: jobs go on, and the next supervisor adopts them.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nexa_contracts.clock import Clock, SystemClock
from nexa_contracts.errors import NexaError, StorageError, StorageUnavailable
from nexa_infra.process import Child
from nexa_infra.scheduling.cancelling import Canceller
from nexa_infra.scheduling.local_queue import LocalQueue
from nexa_infra.scheduling.lock import FileLock
from nexa_infra.scheduling.process_tree import ProcessMark, find_process, is_alive, list_carriers, read_boot_id
from nexa_infra.scheduling.queued_job import Job
from nexa_infra.scheduling.settling import UNDIGESTED, Settler
from nexa_infra.scheduling.signals import SignalQueue
from nexa_infra.scheduling.spare import sweep_rooms
from nexa_infra.scheduling.starting import Starter, describe_process
from nexa_infra.scheduling.state_dir import StateDir

logger = logging.getLogger(__name__)

_WATCHED = (signal.SIGCHLD, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)
_LEAVING = frozenset({signal.SIGTERM, signal.SIGINT})
_IDLE_S = 5.0
"""How long it stays when nothing is left, for the next launch."""
_LOOK_S = 1.0
"""How often it looks without being told to."""
_LOOK_AT_ADOPTED_S = 0.2
"""Adopted jobs are not its children, so nobody tells it that they ended."""
_LOCK_WAIT_S = 10.0
"""For the supervisor it replaces to leave."""
_LARGEST_LOG_BYTES = 4 << 20


class Supervisor:
    """The loop and what it knows beside the queue: which job entries are its children."""

    def __init__(self, queue: LocalQueue, *, state: StateDir, environment: Mapping[str, str], clock: Clock) -> None:
        self._queue = queue
        self._clock = clock
        self._boot_id = read_boot_id()
        self._children: dict[int, Child] = {}
        self._unsettled: dict[int, float] = {}
        """Jobs that ended and cannot be recorded yet, and when their end was seen."""
        self._reasons: dict[int, str] = {}
        """Why not, as it was last said; the queue itself may not take it."""
        self._trouble = ""
        self._settler = Settler(boot_id=self._boot_id, environment=environment, clock=clock, ends=state.ends)
        self._canceller = Canceller(queue, settler=self._settler, clock=clock)
        self._starter = Starter(queue, settler=self._settler, environment=environment, log=state.log, clock=clock)

    def run(self, signals: SignalQueue, lock: FileLock) -> bool:
        """Supervise until nothing is left for a while (return True) or it has to leave (False).

        A signal says so, or the lock was removed with the whole state folder: another supervisor may have a new one.
        """
        busy_s = self._clock.monotonic_s()
        while lock.is_in_place():
            pause_s = _LOOK_S
            try:
                self.look()
                if self._queue.has_unsettled():
                    busy_s = self._clock.monotonic_s()
                    pause_s = self._choose_pause_s()
                self._trouble = ""
            except StorageUnavailable as error:
                # Nobody else would start what waits when the lock or the full disk is gone, so it stays for that.
                self._trouble = say_once(error, self._trouble)
                busy_s = self._clock.monotonic_s()
            if self._clock.monotonic_s() - busy_s >= _IDLE_S:
                return True
            if signals.wait(pause_s) & _LEAVING:
                return False
        return False

    def _choose_pause_s(self) -> float:
        has_adopted = any(job.job_id not in self._children for job in self._queue.list_running())
        return _LOOK_AT_ADOPTED_S if has_adopted else _LOOK_S

    def look(self) -> None:
        """Do all that is to be done now: settle what ended, pass on cancellations, start what has room."""
        for job in self._queue.list_running():
            if self._has_ended(job):
                self._settle(job)
        self._canceller.pass_on()
        self._starter.start_ready(self._children, gone=self._unsettled)

    def _has_ended(self, job: Job) -> bool:
        child = self._children.get(job.job_id)
        if child is not None:
            has_ended = child.poll() is not None
            if job.mark is None and not has_ended:  # the queue could not take it when it was started
                self._queue.update_job(job.job_id, **describe_process(child.pid))
            return has_ended
        if job.boot_id != self._boot_id:
            return True
        if job.mark is None:
            return not self._adopt(job)
        return not is_alive(job.mark)

    def _adopt(self, job: Job) -> bool:
        # The supervisor before us ended between starting the entry and noting its pid. The entry is the first
        # process that carried the token.
        found = [find_process(pid) for pid in list_carriers(job.token or "")]
        alive = [process for process in found if process is not None and not process.is_zombie]
        if not alive:
            return False
        first = min(alive, key=lambda process: (process.mark.start_ticks, process.mark.pid)).mark
        self._queue.update_job(job.job_id, pid=first.pid, start_ticks=first.start_ticks)
        return True

    def _settle(self, job: Job) -> None:
        seen_s = self._unsettled.setdefault(job.job_id, job.ended_s or self._clock.monotonic_s())
        try:
            child = self._children.get(job.job_id)
            status = None if child is None else child.poll()
            values = self._settler.settle(replace(job, ended_s=seen_s), entry_status=status)
        except (StorageError, OSError) as error:
            # The disk may have room again in a moment. Until then the job is not over, but its place is free: the full
            # disk of one project must not hold up the others.
            reason = (
                f"it ended and cannot be recorded yet: {error.message if isinstance(error, StorageError) else error}"
            )
            if self._reasons.get(job.job_id) != reason:
                self._reasons[job.job_id] = reason
                logger.warning("run cannot be settled yet run_id=%s reason=%s", job.run_id, error)
            if job.reason != reason:
                self._queue.update_job(job.job_id, reason=reason, ended_s=seen_s)
            return
        except UNDIGESTED as error:
            values = self._settler.let_go(job, error)
        self._queue.update_job(job.job_id, **values)
        self._children.pop(job.job_id, None)
        del self._unsettled[job.job_id]
        self._reasons.pop(job.job_id, None)
        self._canceller.forget(job.job_id)


def say_once(error: StorageUnavailable, said: str) -> str:
    """Log what keeps the queue from being used, unless it was the last that was said; return what was said last."""
    if error.message != said:
        logger.warning("queue cannot be used now, waiting: %s", error)
    return error.message


def main(argv: Sequence[str] | None = None) -> int:
    """Supervise the queue in a state folder; return 0 also when another supervisor has it."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    state = StateDir(Path(arguments[0]))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(process)d %(message)s")
    with SignalQueue(_WATCHED) as signals, FileLock(state.lock) as lock:
        try:
            _trim_log(state.log)
            return _supervise(state, signals, lock)
        except NexaError as error:
            logger.error("supervisor leaves reason=%s", error)  # noqa: TRY400 - the message says all
            return error.exit_code


def _supervise(state: StateDir, signals: SignalQueue, lock: FileLock) -> int:
    clock = SystemClock()
    wait_s = _LOCK_WAIT_S
    while lock.acquire(wait_s=wait_s, clock=clock):
        opened = _open_queue(state, signals, lock)
        if opened is None:
            return 0
        with opened as queue:
            if not Supervisor(queue, state=state, environment=os.environ, clock=clock).run(signals, lock):
                return 0
            # A launcher adds its jobs and then looks at the lock; we give the lock back and then look at the jobs.
            # Whichever comes second sees the other.
            lock.release()
            if not queue.has_unsettled():
                return 0
        wait_s = 0.0
    return 0


def _open_queue(state: StateDir, signals: SignalQueue, lock: FileLock) -> LocalQueue | None:
    said = ""
    while lock.is_in_place():
        try:
            queue = LocalQueue(state.queue)
            try:
                queue.record_supervisor(_our_mark())
                queue.forget_ended()
                sweep_rooms(state.ends, {job.token for job in queue.list_running()})
            except BaseException:
                queue.close()
                raise
            return queue
        except StorageUnavailable as error:
            said = say_once(error, said)
        if signals.wait(_LOOK_S) & _LEAVING:
            return None
    return None


def _our_mark() -> ProcessMark:
    process = find_process(os.getpid())
    if process is None:
        raise StorageError("/proc: not mounted; the local backend needs it to tell processes apart")
    return process.mark


def _trim_log(log: Path) -> None:
    try:
        if log.stat().st_size > _LARGEST_LOG_BYTES:
            os.truncate(log, 0)
    except FileNotFoundError:
        return  # started by hand, with its output elsewhere


if __name__ == "__main__":
    sys.exit(main())
