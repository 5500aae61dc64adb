"""From another cluster, or as another user, absence says nothing: nothing is settled, submitted or cancelled there."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from nexa_contracts.states import JobState
from nexa_infra.scheduling.slurm.belonging import SlurmElsewhere
from nexa_infra.scheduling.slurm.chunks import list_chunks, read_cancelled
from nexa_infra.testing.backend import STAMP
from nexa_infra.testing.slurm import FakeSlurm
from tests.scheduling.slurm.fake_site import SWEEP, FakeSite

RUN = f"run_{STAMP}-000"


def move(site: FakeSite) -> FakeSlurm:
    """Let the next commands be given on another cluster that sees the same folder; return the first one."""
    first, site.slurm = site.slurm, FakeSlurm()
    site.slurm.cluster = "other"
    return first


def edit(site: FakeSite, **changes: Any) -> None:
    for chunk in list_chunks(site.folder()):
        data = {**json.loads(chunk.path.read_text()), **changes}
        chunk.path.write_text(json.dumps({name: value for name, value in data.items() if value != "absent"}))


def look_twice(site: FakeSite) -> tuple[JobState, str | None]:
    """Look at the first run, and again when a job that Slurm does not know would be lost."""
    site.backend.run_states([RUN])
    site.clock.sleep(31)
    found = site.backend.run_states([RUN])[RUN]
    return found.state, found.reason


def test_a_submission_says_whose_it_is_without_a_question_more(site: FakeSite) -> None:
    plan = site.plan(2)
    calls = len(site.slurm.calls)
    site.submit(plan)
    (chunk,) = list_chunks(site.folder())
    assert (chunk.cluster, chunk.user_id) == ("fake", os.getuid())
    assert [call.argv[0] for call in site.slurm.calls[calls:]] == ["sbatch"]


def test_from_another_cluster_a_run_is_unknown_and_is_left_alone(site: FakeSite) -> None:
    site.launch(1)
    site.slurm.start(1)
    first = move(site)
    state, reason = look_twice(site)
    assert state is JobState.UNKNOWN
    assert reason is not None
    assert reason.startswith("belongs to cluster fake, user ")
    assert reason.endswith("; this is cluster other; look from there")
    site.slurm = first
    assert site.backend.run_states([RUN])[RUN].state is JobState.RUNNING


def test_the_jobs_of_another_user_are_left_alone(site: FakeSite) -> None:
    site.launch(1)
    site.slurm.start(1)
    edit(site, user_id=4_000_000_000)
    jobs, site.slurm.jobs = site.slurm.jobs, {}  # `squeue --me` shows one's own
    state, reason = look_twice(site)
    assert state is JobState.UNKNOWN
    assert (reason or "").startswith("belongs to cluster fake, user 4000000000; this is user ")
    with pytest.raises(SlurmElsewhere, match="belong"):
        site.backend.cancel_runs([RUN])
    assert read_cancelled(site.folder()) == {RUN}
    site.slurm.jobs = jobs
    edit(site, user_id=os.getuid())
    site.backend.pass_on_cancels([RUN])
    assert jobs[1].tasks[0].state == "CANCELLED"


def test_a_wish_to_cancel_is_written_on_another_cluster_and_never_taken_for_the_end(site: FakeSite) -> None:
    site.launch(1)
    site.slurm.start(1)
    move(site)
    with pytest.raises(SlurmElsewhere) as caught:
        site.backend.cancel_runs([RUN])
    assert caught.value.hint == "the wish is written down: `nexa cancel` or `nexa watch` there passes it on"
    assert site.slurm.count("scancel") == 0
    assert look_twice(site)[0] is JobState.UNKNOWN
    site.backend.pass_on_cancels([RUN])


@pytest.mark.parametrize("size", [None, 2])
def test_what_waits_is_handed_over_on_its_own_cluster_alone(site: FakeSite, size: int | None) -> None:
    handles = site.launch(20, max_submitted=16, max_array_size=size)
    assert not handles[-1].job_id
    first = move(site)
    with pytest.raises(SlurmElsewhere, match=f"^{SWEEP}.c[0-9]+: belongs to cluster fake, user "):
        site.backend.hand_over_rest(SWEEP)
    assert site.slurm.count("sbatch") == 0
    site.slurm = first
    for job_id in list(first.jobs):
        first.end(job_id, "COMPLETED")
    assert site.backend.hand_over_rest(SWEEP) == 4


def test_what_was_lost_is_looked_for_on_its_own_cluster_alone(site: FakeSite) -> None:
    site.launch(1)
    edit(site, job_id=None)
    first = move(site)
    with pytest.raises(SlurmElsewhere):
        site.backend.hand_over_rest(SWEEP)
    assert look_twice(site)[0] is JobState.UNKNOWN
    assert site.slurm.jobs == {}
    site.slurm = first
    assert site.backend.hand_over_rest(SWEEP) == 1
    assert list_chunks(site.folder())[0].job_id == "1"


def test_where_the_cluster_is_not_asked_at_submission_the_first_look_learns_it(site: FakeSite) -> None:
    site.launch(1, max_array_size=10)
    assert site.slurm.count("scontrol") == 0
    assert list_chunks(site.folder())[0].cluster is None
    site.backend.run_states([RUN])
    assert list_chunks(site.folder())[0].cluster == "fake"
    site.backend.run_states([RUN])
    assert site.slurm.count("scontrol") == 1
    move(site)
    assert look_twice(site)[0] is JobState.UNKNOWN


def test_chunks_of_earlier_versions_are_judged_as_they_were(site: FakeSite) -> None:
    site.launch(1)
    edit(site, cluster="absent", user_id="absent")
    site.slurm.forget(1)
    look_twice(site)
    assert site.outcome().state is JobState.NODE_FAILED


def test_a_look_that_settles_nothing_writes_nothing(site: FakeSite) -> None:
    site.launch(2)
    site.slurm.end(1, "FAILED")
    before = sorted(site.root.rglob("*"))
    told = site.backend.run_states([RUN], settles=False)[RUN]
    assert (told.state, told.reason) == (
        JobState.UNKNOWN,
        "Slurm says that job 1_0 ended as FAILED on n1; not settled by this look",
    )
    site.slurm.forget(1)
    assert site.backend.run_states([RUN], settles=False)[RUN].state is JobState.UNKNOWN
    assert sorted(site.root.rglob("*")) == before
