"""A job that Slurm says has ended and that said nothing gets its outcome; one that Slurm is silent about gets none."""

from __future__ import annotations

import pytest

from nexa_contracts.states import JobState
from nexa_infra.scheduling.fence import Owner, claim_run, start_attempt
from nexa_infra.scheduling.logs import scratch_log
from nexa_infra.scheduling.records import Attempt, Failure, record_attempt
from nexa_infra.scheduling.slurm.client import SlurmUnreachable
from nexa_infra.scheduling.spare import Spare
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import find_outcome, read_attempts
from nexa_infra.storage.run_dir import RunDir
from nexa_infra.testing.backend import STAMP
from tests.scheduling.slurm.fake_site import SWEEP, FakeSite

RUN = f"run_{STAMP}-000"
NAME = f"{SWEEP}.c0"


def begin(site: FakeSite, *, attempt: int = 1) -> RunDir:
    """Let the job of the first row begin, and say something."""
    run_dir = Project(site.root).run_dir(RUN)
    claim_run(run_dir, Owner("fake", "1_0", NAME), clock=site.clock)
    assert start_attempt(run_dir, attempt, restarts=0, clock=site.clock) is not None
    log = scratch_log(site.root / "scratch", RUN, attempt)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("step 7\nRuntimeError: it is over\n")
    return run_dir


def look(site: FakeSite) -> tuple[JobState, str | None]:
    found = site.backend.run_states([RUN])[RUN]
    return found.state, found.reason


@pytest.mark.parametrize(
    ("word", "state", "kind"),
    [
        ("NODE_FAIL", JobState.NODE_FAILED, "lost"),
        ("TIMEOUT", JobState.TIMED_OUT, "timed_out"),
        ("OUT_OF_MEMORY", JobState.OUT_OF_MEMORY, "out_of_memory"),
        ("CANCELLED", JobState.CANCELLED, "cancelled"),
        ("FAILED", JobState.FAILED, "lost"),
        ("COMPLETED", JobState.FAILED, "lost"),
    ],
)
def test_every_way_to_end_is_told_apart_with_the_line_that_shows_it(
    site: FakeSite, word: str, state: JobState, kind: str
) -> None:
    site.launch(1)
    site.slurm.start(1)
    run_dir = begin(site)
    assert look(site)[0] is JobState.RUNNING
    site.slurm.end(1, word)
    assert look(site)[0] is state
    outcome = site.outcome()
    assert (outcome.state, outcome.attempts) == (state, 1)
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.evidence[-1]) == (kind, "RuntimeError: it is over")
    assert outcome.failure.message.startswith(f"Slurm says that job 1_0 ended as {word}")
    (attempt,) = read_attempts(Project(site.root), RUN)
    assert attempt.state is state
    assert run_dir.log(1).read_text().endswith("it is over\n")


def test_what_never_began_has_no_attempt_and_says_so(site: FakeSite) -> None:
    site.launch(1)
    site.slurm.end(1, "NODE_FAIL")
    assert look(site)[0] is JobState.NODE_FAILED
    outcome = site.outcome()
    assert (outcome.attempts, outcome.seconds) == (0, 0.0)
    assert outcome.failure is not None
    assert outcome.failure.message.endswith("it had not begun")


def ended(site: FakeSite, state: JobState, failure: Failure | None = None) -> Attempt:
    now = site.clock.now()
    return Attempt(run_id=RUN, number=1, state=state, started_at=now, ended_at=now, seconds=2.0, failure=failure)


def test_between_two_attempts_only_the_outcome_is_written(site: FakeSite) -> None:
    site.launch(1, requeue=False)
    record_attempt(begin(site), ended(site, JobState.PREEMPTED))
    site.slurm.end(1, "TIMEOUT")
    assert look(site)[0] is JobState.TIMED_OUT
    assert (site.outcome().attempts, site.outcome().seconds) == (1, 2.0)


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED])
def test_a_job_that_was_killed_after_its_last_attempt_ends_as_that_did(site: FakeSite, state: JobState) -> None:
    site.launch(1)
    record_attempt(begin(site), ended(site, state))
    site.slurm.end(1, "NODE_FAIL")
    assert look(site)[0] is state
    assert (site.outcome().attempts, site.outcome().failure) == (1, None)


@pytest.mark.parametrize(
    ("state", "failure"), [(JobState.SUCCEEDED, None), (JobState.FAILED, Failure("crash", "bad shape", ("a line",)))]
)
def test_a_record_that_found_no_room_is_taken_from_scratch_as_it_was_measured(
    site: FakeSite, state: JobState, failure: Failure | None
) -> None:
    site.launch(1)
    run_dir = begin(site)
    spare = scratch_log(site.root / "scratch", RUN, 1).with_name("attempt-1.end.json")
    Spare(spare).keep(ended(site, state, failure))
    site.clock.advance(7200)  # its job held its place until it was ended
    site.slurm.end(1, "TIMEOUT")
    assert look(site)[0] is state
    assert (site.outcome().seconds, site.outcome().attempts) == (2.0, 1)
    assert [attempt.state for attempt in read_attempts(Project(site.root), RUN)] == [state]
    said = site.outcome().failure
    assert (said is None) if failure is None else (said is not None and said.message == "bad shape")
    assert run_dir.log(1).read_text().endswith("it is over\n")
    assert not spare.exists()


def test_a_controller_that_does_not_answer_changes_nothing(site: FakeSite) -> None:
    site.launch(1)
    site.slurm.end(1, "NODE_FAIL")
    site.slurm.is_down = True
    for _ in range(3):
        site.clock.advance(3600)
        with pytest.raises(SlurmUnreachable):
            site.backend.run_states([RUN])
    assert find_outcome(Project(site.root), RUN) is None


def test_a_job_that_slurm_does_not_know_is_lost_at_the_second_look_and_not_before(site: FakeSite) -> None:
    site.launch(1)
    site.slurm.forget(1)
    assert look(site) == (JobState.UNKNOWN, "Slurm does not know its job; a second look decides")
    assert look(site)[0] is JobState.UNKNOWN
    site.clock.advance(60)
    assert look(site)[0] is JobState.NODE_FAILED
    failure = site.outcome().failure
    assert failure is not None
    assert (failure.kind, failure.message) == (
        "lost",
        "Slurm does not know job 1_0 any more, and it left no outcome; it had not begun",
    )


def test_a_job_that_was_missing_once_and_came_back_is_not_lost_later(site: FakeSite) -> None:
    site.launch(2)
    (job,) = site.slurm.jobs.values()
    site.slurm.forget(1)
    look(site)
    site.slurm.jobs[1] = job
    site.clock.advance(60)
    assert look(site)[0] is JobState.PENDING
    site.slurm.forget(1)
    assert look(site)[0] is JobState.UNKNOWN


def test_another_job_under_the_same_id_is_not_ours(site: FakeSite) -> None:
    site.launch(1)
    site.slurm.forget(1)
    site.slurm.next_id = 1
    site.slurm.run(["sbatch", "--job-name=someone-elses", "--array=0-3", "their.sh"], timeout_s=1)
    site.slurm.end(1, "COMPLETED")
    assert look(site)[0] is JobState.UNKNOWN
    site.backend.cancel_runs([RUN])
    assert [task.state for task in site.slurm.jobs[1].tasks.values()] == ["COMPLETED"] * 4


def test_a_run_that_another_job_has_claimed_is_not_settled_by_the_end_of_ours(site: FakeSite) -> None:
    site.launch(1)
    site.slurm.start(1)
    run_dir = Project(site.root).run_dir(RUN)
    claim_run(run_dir, Owner("fake", "99_0", NAME), clock=site.clock)  # whose answer was lost, and which lives
    site.slurm.end(1, "COMPLETED")
    state, reason = look(site)
    assert state is JobState.UNKNOWN
    assert "it belongs to job 99_0; when Slurm does not know that one any more, remove " in (reason or "")
    assert find_outcome(Project(site.root), RUN) is None
    run_dir.owner.unlink()
    assert look(site)[0] is JobState.FAILED


def test_a_clock_that_is_set_back_does_not_make_a_job_lost(site: FakeSite) -> None:
    site.launch(1)
    site.slurm.forget(1)
    look(site)
    site.clock.jump(-86400)
    assert look(site)[0] is JobState.UNKNOWN
    site.clock.advance(10)
    assert look(site)[0] is JobState.UNKNOWN
    site.clock.advance(30)
    assert look(site)[0] is JobState.NODE_FAILED


def test_a_preempted_job_that_may_not_come_back_ends_as_preempted(site: FakeSite) -> None:
    site.launch(1, requeue=False)
    begin(site)
    site.slurm.end(1, "PREEMPTED")
    assert look(site)[0] is JobState.UNKNOWN
    site.clock.advance(60)
    assert look(site)[0] is JobState.FAILED
    failure = site.outcome().failure
    assert failure is not None
    assert failure.kind == "preempted"


def test_the_jobs_own_word_counts_whatever_slurm_says(site: FakeSite) -> None:
    (handle,) = site.launch(1)
    site.slurm.run_waiting()
    site.slurm.jobs[1].tasks[0].state = "NODE_FAIL"
    assert site.backend.states([handle]) == {handle: JobState.SUCCEEDED}


def test_a_cancelled_job_of_which_slurm_keeps_no_record_is_cancelled_at_once(site: FakeSite) -> None:
    site.launch(1)
    site.backend.cancel_runs([RUN])
    assert look(site)[0] is JobState.CANCELLED
    failure = site.outcome().failure
    assert failure is not None
    assert failure.kind == "cancelled"


def test_a_shared_tier_that_cannot_be_written_leaves_the_run_open(site: FakeSite) -> None:
    site.launch(1)
    manifests = Project(site.root).manifests
    manifests.parent.mkdir(exist_ok=True)
    manifests.write_text("in the way")
    site.slurm.end(1, "TIMEOUT")
    with pytest.raises(Exception, match="manifests"):
        look(site)
    manifests.unlink()
    assert look(site)[0] is JobState.TIMED_OUT


def test_a_spec_that_was_removed_leaves_the_run_open_and_is_named(site: FakeSite) -> None:
    site.launch(1)
    (site.folder() / "spec.json").unlink()
    site.slurm.end(1, "TIMEOUT")
    state, reason = look(site)
    assert state is JobState.UNKNOWN
    assert reason is not None
    assert reason.endswith("spec.json: no such file")


def test_one_look_at_many_runs_is_one_question(site: FakeSite) -> None:
    site.launch(25, max_array_size=10)
    site.backend.run_states([f"run_{STAMP}-{index:03d}" for index in range(25)])
    assert site.slurm.count("squeue") == 1
    assert site.slurm.count("sacct") == 0


def test_a_run_that_waits_says_for_what(site: FakeSite) -> None:
    site.launch(1)
    site.slurm.jobs[1].tasks[0].reason = "Priority"
    assert look(site) == (JobState.PENDING, "waits: Priority")


def test_the_log_of_a_run_that_has_not_begun_is_empty_and_follows_to_its_end(site: FakeSite) -> None:
    (handle,) = site.launch(1)
    assert list(site.backend.logs(handle)) == []
    lines = site.backend.logs(handle, follow=True)
    site.slurm.run_waiting()
    assert list(lines) == ["one"]


def test_where_a_site_has_accounting_it_tells_how_a_forgotten_job_ended(site: FakeSite) -> None:
    site.launch(1)
    begin(site)
    site.slurm.forget(1)
    site.slurm.accounting = [f"1_0|TIMEOUT|0:0|n2|{NAME}", "1_0|COMPLETED|0:0|n2|someone-elses"]
    assert look(site)[0] is JobState.TIMED_OUT
    failure = site.outcome().failure
    assert failure is not None
    assert failure.message.startswith("Slurm says that job 1_0 ended as TIMEOUT on n2")
