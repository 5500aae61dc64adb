"""A project without runs, and a clock that stands."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from nexa_contracts.clock import SystemClock
from nexa_infra.storage.layout import Project
from nexa_infra.testing.clock import FakeClock


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


@pytest.fixture
def clock() -> FakeClock:
    # Well after the files are written: a folder that changed within the last ticks is looked at again.
    return FakeClock(SystemClock().now() + timedelta(minutes=1))
