from __future__ import annotations

from pathlib import Path

from nexa_contracts.job import JobHandle
from nexa_contracts.site import SiteConfig
from nexa_contracts.states import JobState
from nexa_infra.scheduling.backend import LaunchRequest
from nexa_infra.storage.layout import Project
from nexa_infra.testing.backend import launch, make_entry, make_request
from tests.scheduling.local_machine import LocalMachine

WAITS = """
import pathlib, time
pathlib.Path("started").write_text("yes")
while not pathlib.Path("go").exists():
    time.sleep(0.02)
"""


def resume(machine: LocalMachine, root: Path, index: int) -> JobHandle:
    """Submit one more run of the sweep of `make_request`, from the folder of a resumption."""
    sweep = make_request(root, "")
    entry = make_entry(root, "print('more')", index=index)
    request = LaunchRequest(
        submission=sweep.submission, entries={index: entry}, resources=entry.resources, max_parallel=1
    )
    plan = machine.backend.plan(request, SiteConfig())
    folder = Project(root).run(sweep.submission) / "resume-20260102_040506_k3f9"
    folder.mkdir(parents=True)
    for file in plan.files:
        (folder / file.path).write_text(file.text)
    (handle,) = machine.backend.submit(plan, folder)
    return handle


def test_a_resumed_sweep_runs_no_more_at_once_than_it_may(machine: LocalMachine, tmp_path: Path) -> None:
    (first,) = launch(machine.backend, tmp_path, make_request(tmp_path, WAITS, max_parallel=1))
    machine.wait_for_file(tmp_path / "started")
    more = resume(machine, tmp_path, 1)
    # A run of its own passes, so the supervisor has had its look at the one that waits.
    other = Project(tmp_path / "other")
    (alone,) = launch(machine.backend, other.root, make_request(other.root, "print()", cwd=str(tmp_path)))
    assert machine.wait_for_end([alone]) == [JobState.SUCCEEDED]
    assert machine.backend.states([first, more]) == {first: JobState.RUNNING, more: JobState.PENDING}
    (tmp_path / "go").touch()
    assert machine.wait_for_end([first, more]) == [JobState.SUCCEEDED] * 2


def test_sweeps_of_two_projects_do_not_count_together(machine: LocalMachine, tmp_path: Path) -> None:
    # A project that was copied has sweeps with the ids of the original.
    (first,) = launch(machine.backend, tmp_path, make_request(tmp_path, WAITS, max_parallel=1))
    machine.wait_for_file(tmp_path / "started")
    copy = tmp_path / "copy"
    (other,) = launch(machine.backend, copy, make_request(copy, "print()", cwd=str(tmp_path), max_parallel=1))
    assert machine.wait_for_end([other]) == [JobState.SUCCEEDED]
    assert machine.backend.states([first])[first] is JobState.RUNNING
    (tmp_path / "go").touch()
    assert machine.wait_for_end([first]) == [JobState.SUCCEEDED]
