from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from nexa_contracts.clock import SystemClock
from nexa_contracts.job import JobHandle
from nexa_contracts.states import JobState
from nexa_infra.scheduling.backend import Backend
from nexa_infra.scheduling.slurm.backend import SlurmBackend
from nexa_infra.scheduling.slurm.client import SlurmClient
from nexa_infra.storage.layout import Project
from nexa_infra.testing.backend import BackendContract, FakeBackend
from nexa_infra.testing.slurm import FakeSlurm
from tests.scheduling.local_machine import LocalMachine


class TestFakeBackend(BackendContract):
    def make_backend(self, tmp_path: Path) -> Backend:
        return FakeBackend()

    def bring_to_end(self, backend: Backend, handles: Sequence[JobHandle]) -> None:
        assert isinstance(backend, FakeBackend)
        for handle in handles:
            if backend.states([handle])[handle].is_final:
                continue
            if handle.name.endswith("-000"):
                backend.end(handle.name, JobState.SUCCEEDED, lines=["one", "two"])
            else:
                backend.end(handle.name, JobState.FAILED, lines=["no"])


class TestLocalBackend(BackendContract):
    @pytest.fixture(autouse=True)
    def _on(self, machine: LocalMachine) -> None:
        self.machine = machine

    def make_backend(self, tmp_path: Path) -> Backend:
        return self.machine.backend

    def bring_to_end(self, backend: Backend, handles: Sequence[JobHandle]) -> None:
        self.machine.wait_for_end(handles)


class TestSlurmBackendOnAFakeCluster(BackendContract):
    """The same class stands in tests/cluster for the real one."""

    def make_backend(self, tmp_path: Path) -> Backend:
        self.slurm, clock = FakeSlurm(), SystemClock()
        client = SlurmClient(self.slurm, environment=os.environ, clock=clock)
        return SlurmBackend(Project(tmp_path).runs, client=client, environment=os.environ, clock=clock)

    def bring_to_end(self, backend: Backend, handles: Sequence[JobHandle]) -> None:
        # Of a job that is not to end nothing is run.
        wanted = {handle.job_id for handle in handles}
        for job in self.slurm.jobs.values():
            for number, task in job.tasks.items():
                if f"{job.job_id}_{number}" not in wanted and task.state == "PENDING":
                    task.state = "RUNNING"
        self.slurm.run_waiting()
