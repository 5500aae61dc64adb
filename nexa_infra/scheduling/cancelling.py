"""Passing on cancellations: a waiting job is settled at once, a running one is told to leave and ended if it stays."""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from nexa_contracts.clock import Clock
from nexa_contracts.errors import NexaError, StorageError
from nexa_contracts.states import JobState
from nexa_infra.scheduling.entry import Entry, read_entries
from nexa_infra.scheduling.local_queue import LocalQueue
from nexa_infra.scheduling.process_tree import end_tree, is_alive, send_signal
from nexa_infra.scheduling.queued_job import Job
from nexa_infra.scheduling.records import Failure
from nexa_infra.scheduling.settling import UNDIGESTED, Settler

logger = logging.getLogger(__name__)

_ENTRY_GRACE_S = 20.0
"""For the job entry to end its program's leftovers and to keep the log, after the program's own grace."""
_CANCELLED = Failure("cancelled", "cancelled on request before it started")


class Canceller:
    """Knows which job entries were told to leave, and until when they may take."""

    def __init__(self, queue: LocalQueue, *, settler: Settler, clock: Clock) -> None:
        self._queue = queue
        self._settler = settler
        self._clock = clock
        self._deadlines_s: dict[int, float] = {}
        self._said = ""

    def pass_on(self) -> None:
        """Do what can be done now for every job that is to end."""
        jobs = self._queue.list_cancelled()
        for job in jobs:
            if job.state is JobState.RUNNING:
                self._end_running(job)
        waiting = [job for job in jobs if job.state is not JobState.RUNNING]
        for spec, members in groupby(waiting, key=lambda job: job.spec):
            self._settle_waiting(Path(spec), list(members))

    def forget(self, job_id: int) -> None:
        """Forget a job that ended."""
        self._deadlines_s.pop(job_id, None)

    def _end_running(self, job: Job) -> None:
        if job.mark is None or not is_alive(job.mark):
            return  # it ended, or its entry is not known yet; the next look tells
        now_s = self._clock.monotonic_s()
        deadline_s = self._deadlines_s.get(job.job_id)
        if deadline_s is None:
            # SIGINT is a person's word to the job entry; SIGTERM would be the machine's.
            send_signal(job.mark.pid, signal.SIGINT)
            self._deadlines_s[job.job_id] = now_s + job.grace_s + _ENTRY_GRACE_S
        elif now_s >= deadline_s:
            logger.warning("job entry does not leave and is ended run_id=%s pid=%d", job.run_id, job.mark.pid)
            send_signal(job.mark.pid, signal.SIGKILL)
            end_tree(job.token or "", clock=self._clock, grace_s=0.0)

    def _settle_waiting(self, spec: Path, jobs: Sequence[Job]) -> None:
        entries: dict[int, Entry] = {}
        try:
            entries = read_entries(spec, [job.idx for job in jobs])
        except NexaError as error:
            logger.warning("spec cannot be read path=%s reason=%s", spec, error)
        try:
            self._queue.update_jobs({job.job_id: self._end(job, entries.get(job.idx)) for job in jobs})
        except (StorageError, OSError) as error:
            if str(error) != self._said:  # asked again at every look
                logger.warning("runs cannot be settled yet count=%d reason=%s", len(jobs), error)
            self._said = str(error)

    def _end(self, job: Job, entry: Entry | None) -> dict[str, Any]:
        try:
            return self._settler.end_unstarted(job, JobState.CANCELLED, _CANCELLED, entry=entry)
        except UNDIGESTED as error:
            return self._settler.let_go(job, error)
