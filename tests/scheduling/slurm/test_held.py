"""Jobs on hold that no node could start: let go a few times, then ended on record. On a real Slurm: tests/cluster."""

from __future__ import annotations

import os

from nexa_contracts.states import JobState
from nexa_infra.scheduling.slurm.client import SlurmClient
from nexa_infra.scheduling.slurm.held import Releaser
from nexa_infra.scheduling.slurm.settling import SlurmSettler
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import find_outcome
from nexa_infra.testing.backend import STAMP
from tests.scheduling.slurm.fake_site import SWEEP, FakeSite

RUNS = [f"run_{STAMP}-{index:03d}" for index in range(3)]
HELD = "launch failed requeued held"


def release(site: FakeSite) -> int:
    """Hold the first task again, as a node that cannot start it does, and look after what is held."""
    task = site.slurm.jobs[1].tasks.get(0)
    if task is not None and task.state == "PENDING":
        task.reason = HELD
    client = SlurmClient(site.slurm, environment=os.environ, clock=site.clock)
    settler = SlurmSettler(environment=os.environ, clock=site.clock, start_again=lambda _: False)
    return Releaser(Project(site.root).runs, client, settler.settle).release([SWEEP])


def test_only_what_was_done_counts_and_what_no_node_starts_ends_on_record(site: FakeSite) -> None:
    site.launch(2)
    assert [release(site) for _ in range(3)] == [1, 1, 1]
    assert find_outcome(Project(site.root), RUNS[0]) is None
    assert [release(site) for _ in range(3)] == [1, 0, 0]
    outcome = site.outcome()
    assert (outcome.state, outcome.attempts) == (JobState.NODE_FAILED, 0)
    assert outcome.failure is not None
    assert outcome.failure.message.startswith("no node could start job 1_0: it was let go 3 times and is held again")
    assert list(site.slurm.jobs[1].tasks) == [1]
    assert find_outcome(Project(site.root), RUNS[1]) is None


def test_every_row_of_a_task_that_no_node_starts_ends_on_record(site: FakeSite) -> None:
    site.launch(3, rows_per_task=3)
    for _ in range(4):
        release(site)
    assert [site.outcome(row).state for row in range(3)] == [JobState.NODE_FAILED] * 3


def test_what_is_held_says_who_lets_it_go(site: FakeSite) -> None:
    site.launch(1)
    site.slurm.jobs[1].tasks[0].reason = HELD
    (told,) = site.backend.run_states(RUNS[:1]).values()
    assert told.reason == f"waits: {HELD}; a node could not start it: `nexa watch` lets it go"
