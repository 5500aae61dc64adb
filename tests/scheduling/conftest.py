"""A local backend on real processes, of which nothing is left behind when a test ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nexa_infra.scheduling.state_dir import StateDir
from tests.scheduling.local_machine import LocalMachine


@pytest.fixture
def machine(state_dir: Path) -> Iterator[LocalMachine]:
    """Give a test this machine with an empty queue."""
    machine = LocalMachine(StateDir(state_dir / "here"), os.environ)
    yield machine
    machine.close()
