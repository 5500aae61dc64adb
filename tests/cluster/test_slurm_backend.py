"""What every backend promises, held to by the Slurm backend on a real cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from nexa_contracts.job import JobHandle
from nexa_infra.scheduling.backend import Backend
from nexa_infra.testing.backend import BackendContract
from tests.cluster.slurm_cluster import SlurmCluster
from tests.cluster.sweep_site import make_backend, wait_for


class TestSlurmBackend(BackendContract):
    @pytest.fixture(autouse=True)
    def _on(self, cluster: SlurmCluster) -> None:
        self.cluster = cluster

    def make_backend(self, tmp_path: Path) -> Backend:
        return make_backend(self.cluster, tmp_path)

    def bring_to_end(self, backend: Backend, handles: Sequence[JobHandle]) -> None:
        wait_for(lambda: all(state.is_final for state in backend.states(handles).values()), what="the jobs' end")
