from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from nexa_contracts.job import JobHandle
from nexa_contracts.states import JobState
from nexa_infra.scheduling.backend import Backend
from nexa_infra.testing.backend import BackendContract, FakeBackend
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
