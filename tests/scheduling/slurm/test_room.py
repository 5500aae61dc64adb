"""What fits goes into the queue as room comes, whatever else this user has in it, and leaves it in one go."""

from __future__ import annotations

import pytest

from nexa_infra.process import Call
from nexa_infra.scheduling.slurm.client import SlurmUnreachable
from tests.scheduling.slurm.fake_site import SWEEP, FakeSite


def test_a_job_of_ones_own_leaves_room_for_the_rest(site: FakeSite) -> None:
    site.slurm.run(["sbatch", "--job-name=jupyter", "--export=ALL", "--output=x", "x"], timeout_s=1)
    site.slurm.start(1)
    handles = site.launch(10, max_submitted=5)
    assert sum(handle.job_id != "" for handle in handles) == 4


def test_each_part_that_ends_makes_room_for_another(site: FakeSite) -> None:
    site.launch(100, max_submitted=40)
    assert [len(job.tasks) for job in site.slurm.jobs.values()] == [5] * 8
    site.slurm.end(1, "COMPLETED")
    for task in range(4):
        site.slurm.jobs[6].tasks[task].state = "COMPLETED"
    assert site.backend.hand_over_rest(SWEEP) == 5
    assert site.backend.hand_over_rest(SWEEP) == 0


@pytest.mark.parametrize(
    ("most", "at_once", "tasks", "waits_for_others"),
    [(80, 4, 10, True), (80, 30, 30, True), (80, 70, 40, True), (80, 80, 10, False), (80, 200, 10, False)],
)
def test_arrays_that_take_turns_are_no_smaller_than_what_may_run(
    site: FakeSite, most: int, at_once: int, tasks: int, waits_for_others: bool
) -> None:
    site.launch(100, max_submitted=most, max_parallel=at_once)
    jobs = list(site.slurm.jobs.values())
    assert len(jobs[0].tasks) == tasks
    assert [job.options.get("dependency") is not None for job in jobs[:2]] == [False, waits_for_others]
    assert sum(len(job.tasks) for job in jobs) <= most


def test_a_job_whose_answer_was_lost_takes_its_room_once(site: FakeSite) -> None:
    plan = site.plan(16, max_submitted=16)

    def go_down(call: Call) -> None:
        site.slurm.is_down = True
        raise site.slurm.timed_out(call)

    site.slurm.after_submit = go_down
    with pytest.raises(SlurmUnreachable):
        site.submit(plan)
    site.slurm.is_down, site.slurm.after_submit = False, lambda _: None
    assert all(handle.job_id for handle in site.submit(plan))
    assert len(site.slurm.jobs) == 8


def test_arrays_are_cancelled_by_one_listing_and_one_command(site: FakeSite) -> None:
    handles = site.launch(20, max_array_size=5)
    site.backend.cancel(handles)
    assert (site.slurm.count("squeue"), site.slurm.count("scancel")) == (1, 1)
    assert not any(job.tasks for job in site.slurm.jobs.values())


def test_an_id_that_was_given_out_again_is_not_cancelled(site: FakeSite) -> None:
    handles = site.launch(10, max_array_size=5)
    site.slurm.jobs[1].options["job-name"] = "of_another"
    site.backend.cancel(handles)
    assert [len(job.tasks) for job in site.slurm.jobs.values()] == [5, 0]
