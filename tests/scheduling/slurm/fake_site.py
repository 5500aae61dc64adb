"""A Slurm backend over a fake cluster, as several processes in turn would have it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from nexa_contracts.job import JobHandle, LaunchPlan
from nexa_contracts.run import RunOutcome
from nexa_contracts.site import SiteConfig, SlurmSite
from nexa_infra.scheduling.slurm.backend import SlurmBackend
from nexa_infra.scheduling.slurm.client import SlurmClient
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import read_outcome
from nexa_infra.testing.backend import STAMP, make_request, write_plan
from nexa_infra.testing.clock import FakeClock
from nexa_infra.testing.slurm import FakeSlurm

SWEEP = f"sweep_{STAMP}"
GOOD = "print('one')"


class FakeSite:
    """A project, and the cluster it launches on."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.slurm = FakeSlurm()
        self.clock = FakeClock()

    @property
    def backend(self) -> SlurmBackend:
        """A new backend."""
        client = SlurmClient(self.slurm, environment=os.environ, clock=self.clock)
        runs = Project(self.root).runs
        return SlurmBackend(runs, client=client, environment=os.environ, clock=self.clock)

    def config(self, **slurm: Any) -> SiteConfig:
        """Return a site file."""
        return SiteConfig(slurm=SlurmSite.model_validate(slurm))

    def plan(self, rows: int, *, code: str = GOOD, max_parallel: int | None = None, **site: Any) -> LaunchPlan:
        """Return the plan of a sweep whose rows are all the same."""
        request = make_request(self.root, *[code] * rows, max_parallel=max_parallel)
        return self.backend.plan(request, self.config(**site))

    def submit(self, plan: LaunchPlan) -> tuple[JobHandle, ...]:
        """Write a plan and hand it over."""
        return self.backend.submit(plan, write_plan(plan, self.root))

    def launch(self, rows: int, *, max_parallel: int | None = None, **site: Any) -> tuple[JobHandle, ...]:
        """Plan, write and submit a sweep whose rows are all the same."""
        return self.submit(self.plan(rows, max_parallel=max_parallel, **site))

    def outcome(self, index: int = 0) -> RunOutcome:
        """Return how a row ended."""
        return read_outcome(Project(self.root), f"run_{STAMP}-{index:03d}")

    def folder(self) -> Path:
        """Return the folder of the submission."""
        return Project(self.root).run(SWEEP)


@pytest.fixture
def site(tmp_path: Path) -> FakeSite:
    """Give a test an empty project and an idle cluster."""
    return FakeSite(tmp_path)
