"""The second place of a record: what was measured stays as it was, until the first place can take it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nexa_contracts.states import JobState
from nexa_infra.scheduling.logs import scratch_log
from nexa_infra.scheduling.queued_job import Job
from nexa_infra.scheduling.records import Attempt, Failure
from nexa_infra.scheduling.settling import Settler
from nexa_infra.scheduling.spare import Spare, sweep_rooms
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import read_attempts, read_outcome
from nexa_infra.testing.clock import FakeClock
from tests.scheduling.test_settling import BOOT, running_job

BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def make_attempt(run_id: str, *, message: str = "bad shape") -> Attempt:
    return Attempt(
        run_id=run_id,
        number=1,
        state=JobState.FAILED,
        started_at=BEGAN,
        ended_at=BEGAN + timedelta(seconds=7),
        seconds=7.0,
        exit_code=3,
        hostname="here",
        failure=Failure("crash", message, ("a line",)),
    )


def settle(root: Path, job: Job, clock: FakeClock) -> Settler:
    settler = Settler(boot_id=BOOT, environment={}, clock=clock, ends=root / "ends")
    settler.settle(job)
    return settler


@pytest.mark.parametrize("is_reserved", [True, False])
def test_what_is_kept_is_found_as_it_was_and_discarding_leaves_nothing(tmp_path: Path, is_reserved: bool) -> None:
    spare = Spare(tmp_path / "ends" / "token.json")
    assert spare.find() is None
    if is_reserved:
        spare.reserve()
    assert spare.find() is None
    spare.keep(make_attempt("run_x"))
    assert spare.find() == make_attempt("run_x")
    spare.discard()
    assert list(spare.path.parent.iterdir()) == []


def test_a_record_larger_than_its_room_is_shortened(tmp_path: Path) -> None:
    spare = Spare(tmp_path / "token.json")
    spare.reserve()
    spare.keep(make_attempt("run_x", message="x" * 100_000))
    kept = spare.find()
    assert kept is not None
    assert kept.failure == Failure("crash", "x" * 2_000)
    assert (kept.seconds, kept.exit_code) == (7.0, 3)


def test_what_is_no_record_is_passed_over(tmp_path: Path) -> None:
    spare = Spare(tmp_path / "token.json")
    spare.path.write_text("{")
    assert spare.find() is None


def test_a_kept_record_is_recorded_as_it_is_however_late(tmp_path: Path) -> None:
    clock = FakeClock()
    job = replace(running_job(tmp_path, clock), token="ab12")
    Spare(tmp_path / "ends" / "ab12.json").keep(make_attempt(job.run_id))
    log = scratch_log(Path(job.scratch), job.run_id, 1)
    log.parent.mkdir(parents=True)
    log.write_text("last words\n")
    clock.advance(10_000.0)
    settle(tmp_path, job, clock)
    (attempt,) = read_attempts(Project(tmp_path), job.run_id)
    assert (attempt.seconds, attempt.exit_code, attempt.started_at) == (7.0, 3, BEGAN)
    assert read_outcome(Project(tmp_path), job.run_id).ended_at == BEGAN + timedelta(seconds=7)
    assert Project(tmp_path).log(job.run_id, 1).read_text() == "last words\n"
    assert list((tmp_path / "ends").iterdir()) == []


def test_of_a_lost_attempt_the_time_after_its_end_was_seen_does_not_count(tmp_path: Path) -> None:
    clock = FakeClock()
    job = running_job(tmp_path, clock)
    clock.advance(30.0)
    reason = "it ended and cannot be recorded yet: no space left on device"
    job = replace(job, ended_s=clock.monotonic_s(), reason=reason)
    seen_at = clock.now()
    clock.advance(10_000.0)
    settle(tmp_path, job, clock)
    (attempt,) = read_attempts(Project(tmp_path), job.run_id)
    assert (attempt.seconds, attempt.ended_at) == (30.0, seen_at)
    assert attempt.failure is not None
    assert attempt.failure.message.endswith(f"left no record; {reason}")


@pytest.mark.parametrize(
    ("status", "said"), [(None, "was killed from outside"), (-9, "was killed from outside"), (1, "ended with status 1")]
)
def test_an_entry_that_left_by_itself_was_not_killed(tmp_path: Path, status: int | None, said: str) -> None:
    clock = FakeClock()
    job = running_job(tmp_path, clock)
    Settler(boot_id=BOOT, environment={}, clock=clock).settle(job, entry_status=status)
    failure = read_outcome(Project(tmp_path), job.run_id).failure
    assert failure is not None
    assert said in failure.message


def test_rooms_of_entries_that_are_gone_are_swept_and_kept_records_stay(tmp_path: Path) -> None:
    for token in ("living", "gone"):
        Spare(tmp_path / f"{token}.json").reserve()
    Spare(tmp_path / "kept.json").keep(make_attempt("run_x"))
    sweep_rooms(tmp_path, {"living", None})
    assert sorted(path.name for path in tmp_path.iterdir()) == [".living.json.tmp", "kept.json"]
    sweep_rooms(tmp_path / "none", set())


def test_what_stands_among_the_rooms_and_is_none_does_not_stop_the_supervisor(tmp_path: Path) -> None:
    (tmp_path / ".nfs0000000001").touch()  # of a file that someone still holds; a network file system keeps it
    (tmp_path / ".gone.json.tmp").mkdir()
    (tmp_path / ".old.json.tmp").touch()
    sweep_rooms(tmp_path, ())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".gone.json.tmp", ".nfs0000000001"]
