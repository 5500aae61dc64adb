"""What Slurm was asked to take is on record until it is certain that it holds no such job."""

from __future__ import annotations

import pytest

from nexa_contracts.states import JobState
from nexa_infra.process import Call
from nexa_infra.scheduling.slurm.chunks import list_chunks
from nexa_infra.scheduling.slurm.client import SlurmRefused
from nexa_infra.storage.layout import Project
from nexa_infra.testing.backend import STAMP
from nexa_infra.testing.slurm import FakeJob
from tests.scheduling.slurm.fake_site import SWEEP, FakeSite

RUN = f"run_{STAMP}-000"
LIMIT = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"


def lose_and_refuse(site: FakeSite) -> dict[int, FakeJob]:
    """Let the cluster take one job without an answer and without showing it, and refuse all that comes after it."""
    hidden: dict[int, FakeJob] = {}

    def hide(call: Call) -> None:
        hidden.update(site.slurm.jobs)
        site.slurm.jobs.clear()
        site.slurm.takes, site.slurm.refusal = 0, LIMIT
        raise site.slurm.timed_out(call)

    site.slurm.after_submit = hide
    return hidden


def test_a_refusal_after_a_lost_answer_leaves_the_job_on_record(site: FakeSite) -> None:
    hidden = lose_and_refuse(site)
    with pytest.raises(SlurmRefused, match="job submit limit") as caught:
        site.launch(25, max_array_size=10)
    assert caught.value.hint == (
        f"an answer of Slurm was lost before: it may hold {SWEEP}.c0 all the same; to look again: "
        f"nexa sweep --resume {SWEEP}"
    )
    (chunk,) = list_chunks(site.folder())
    assert (chunk.job_id, chunk.asked_at is not None) == (None, True)
    assert site.backend.run_states([RUN])[RUN].state is JobState.UNKNOWN
    site.slurm.jobs.update(hidden)
    assert site.backend.hand_over_rest(SWEEP) == 10
    assert (site.slurm.count("sbatch"), [each.job_id for each in list_chunks(site.folder())]) == (2, ["1"])


def test_what_was_asked_in_an_earlier_process_outlives_a_refusal_too(site: FakeSite) -> None:
    lose_and_refuse(site)
    with pytest.raises(SlurmRefused):
        site.launch(1)
    with pytest.raises(SlurmRefused):
        site.backend.hand_over_rest(SWEEP)
    assert [each.job_id for each in list_chunks(site.folder())] == [None]


def test_what_slurm_never_took_and_was_given_up_is_not_asked_for_again(site: FakeSite) -> None:
    lose_and_refuse(site)
    with pytest.raises(SlurmRefused):
        site.launch(1)
    site.backend.cancel_runs([RUN])
    assert site.backend.hand_over_rest(SWEEP) == 0
    assert (site.slurm.count("sbatch"), list_chunks(site.folder())) == (2, [])
    assert site.outcome().state is JobState.CANCELLED


def test_what_was_cancelled_while_it_waited_is_not_handed_over_though_nobody_looked(site: FakeSite) -> None:
    names = [handle.name for handle in site.launch(4, max_submitted=2)]
    held = list(site.slurm.jobs)
    for job_id in held:
        site.slurm.end(job_id, "COMPLETED")
    assert site.backend.cancel_runs(names[2:]) == frozenset(names[2:])
    assert site.backend.hand_over_rest(SWEEP) == 0
    assert list(site.slurm.jobs) == held
    assert {site.outcome(index).state for index in (2, 3)} == {JobState.CANCELLED}


def test_what_was_lost_says_whose_it_is_though_its_cluster_was_not_asked_before(site: FakeSite) -> None:
    lose_and_refuse(site)
    with pytest.raises(SlurmRefused):
        site.launch(1, max_array_size=10)
    assert list_chunks(site.folder())[0].cluster == "fake"


def test_of_a_chunk_that_waited_only_what_was_not_cancelled_runs(site: FakeSite) -> None:
    names = [handle.name for handle in site.launch(20, max_submitted=16, max_array_size=2)]
    for job_id in list(site.slurm.jobs):
        site.slurm.end(job_id, "COMPLETED")
    site.backend.cancel_runs(names[18:19])
    assert site.backend.hand_over_rest(SWEEP) == 4
    assert site.outcome(18).state is JobState.CANCELLED
    site.slurm.run_waiting()
    assert site.backend.run_states(names[19:])[names[19]].state is JobState.SUCCEEDED
    assert not Project(site.root).run_dir(names[18]).start(1).exists()
