"""The local backend on real processes, and a view on what it does."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nexa_contracts.clock import SystemClock
from nexa_contracts.job import JobHandle
from nexa_contracts.run import AttemptRecord, RunOutcome
from nexa_contracts.states import JobState
from nexa_infra.scheduling.local import LocalBackend
from nexa_infra.scheduling.local_queue import LocalQueue
from nexa_infra.scheduling.process_tree import ProcessMark, end_tree, is_alive, send_signal
from nexa_infra.scheduling.queued_job import Job
from nexa_infra.scheduling.state_dir import StateDir
from nexa_infra.scheduling.supervision import find_supervisor
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import read_attempts, read_outcome

DEADLINE_S = 120.0
"""Far more than anything here takes; only a test that fails waits so long."""


def wait_until(holds: Callable[[], bool], *, what: str) -> None:
    """Return as soon as a condition holds."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline_s, f"not within {DEADLINE_S:g} s: {what}"
        time.sleep(0.02)


class LocalMachine:
    """The local backend of one test, and a view on what it does."""

    def __init__(self, state: StateDir, environment: Mapping[str, str]) -> None:
        self.state = state
        self.environment = dict(environment)

    @property
    def backend(self) -> LocalBackend:
        """A new backend, as another process would have it."""
        return LocalBackend(self.state, environment=self.environment)

    def supervisor(self) -> ProcessMark:
        """Return the supervisor that lives, waited for."""
        wait_until(lambda: self.find_supervisor() is not None, what="a supervisor")
        mark = self.find_supervisor()
        assert mark is not None
        return mark

    def kill_supervisor(self) -> None:
        """Kill it so that it can do nothing more."""
        mark = self.supervisor()
        send_signal(mark.pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(mark), what="death of the supervisor")

    def job(self, handle: JobHandle) -> Job:
        """Return the job as the queue has it."""
        with LocalQueue(self.state.queue) as queue:
            return queue.find_jobs([int(handle.job_id)])[int(handle.job_id)]

    def wait_for_end(self, handles: Sequence[JobHandle]) -> list[JobState]:
        """Return the final states of jobs."""
        wait_until(
            lambda: all(state.is_final for state in self.backend.states(handles).values()),
            what=f"end of {[handle.name for handle in handles]}",
        )
        states = self.backend.states(handles)
        return [states[handle] for handle in handles]

    def outcome(self, root: Path, handle: JobHandle) -> RunOutcome:
        """Return how a run ended, waited for."""
        self.wait_for_end([handle])
        return read_outcome(Project(root), handle.name)

    def attempts(self, root: Path, handle: JobHandle) -> tuple[AttemptRecord, ...]:
        """Return the attempts of a run that ended."""
        return read_attempts(Project(root), handle.name)

    def wait_for_file(self, path: Path) -> str:
        """Return the text of a file that a job writes."""
        wait_until(lambda: path.exists() and path.read_text() != "", what=f"file {path}")
        return path.read_text()

    def close(self) -> None:
        """End the supervisor and everything that its jobs left."""
        if not self.state.queue.exists():
            return
        mark = self.find_supervisor()
        if mark is not None:
            send_signal(mark.pid, signal.SIGKILL)
        with LocalQueue(self.state.queue) as queue:
            tokens = [job.token for job in queue.list_running()]
        for token in tokens:
            assert end_tree(token or "", clock=SystemClock(), grace_s=0.0)

    def find_supervisor(self) -> ProcessMark | None:
        """Return the supervisor that lives."""
        with LocalQueue(self.state.queue) as queue:
            return find_supervisor(self.state, queue)
