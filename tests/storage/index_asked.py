"""What the tests of the index ask of it."""

from __future__ import annotations

from nexa_infra.storage.index import RunIndex, open_index
from nexa_infra.storage.layout import Project
from nexa_infra.testing.clock import FakeClock


def ids(index: RunIndex) -> list[str]:
    return [row.run_id for row in index.find_runs()]


def open_ids(project: Project, clock: FakeClock) -> list[str]:
    with open_index(project, clock=clock) as index:
        return ids(index)
