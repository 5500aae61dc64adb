from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nexa_contracts.errors import StorageError
from nexa_contracts.states import JobState
from nexa_infra.scheduling.local_queue import LocalQueue
from nexa_infra.scheduling.process_tree import ProcessMark
from nexa_infra.scheduling.queued_job import NewJob

BOOT = "this boot"


def new_job(index: int = 0, **changes: Any) -> NewJob:
    fields: dict[str, Any] = {
        "submission": "/project/runs/sweep",
        "spec": "/project/runs/sweep/spec.json",
        "idx": index,
        "run_id": f"run_20260102_030405_k3f9-{index:03d}",
        "run_dir": f"/project/runs/{index:03d}",
        "outcome": "/project/runs/manifests/outcome.json",
        "scratch": "/scratch",
        "cpus": 1,
        "memory_bytes": 1,
        "gpus": 0,
        "share_gpus": False,
        "walltime_s": 60.0,
        "grace_s": 1.0,
        "max_retries": 0,
    }
    return NewJob(**(fields | changes))


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[LocalQueue]:
    with LocalQueue(tmp_path / "queue.sqlite3") as queue:
        yield queue


def ready(queue: LocalQueue, *held: str, now_s: float = 0.0, boot_id: str = BOOT) -> list[int]:
    return [job.idx for job in queue.list_ready(held, boot_id=boot_id, now_s=now_s, limit=100)]


def test_jobs_keep_their_order_and_every_field(queue: LocalQueue) -> None:
    jobs = [new_job(index, secrets=("A", "B"), share_gpus=True, limit_cpus=3) for index in (4, 2, 9)]
    ids = queue.add_jobs(jobs)
    found = queue.find_jobs(ids)
    for job_id, job in zip(ids, jobs, strict=True):
        assert {name: getattr(found[job_id], name) for name in NewJob.__slots__} == {
            name: getattr(job, name) for name in NewJob.__slots__
        }
    assert ready(queue, "A", "B") == [4, 2, 9]


def test_adding_again_changes_nothing(queue: LocalQueue) -> None:
    (job_id,) = queue.add_jobs([new_job()])
    queue.update_job(job_id, state=JobState.RUNNING)
    assert queue.add_jobs([new_job(1), new_job(spec="/project/runs/sweep/resumed/spec.json")])[1] == job_id
    assert queue.find_jobs([job_id])[job_id].state is JobState.RUNNING


def test_a_sweep_at_its_limit_does_not_hold_up_the_others(queue: LocalQueue) -> None:
    first, *_ = queue.add_jobs([new_job(index, max_parallel=1) for index in range(3)])
    queue.add_jobs([new_job(7, submission="/other")])
    queue.update_job(first, state=JobState.RUNNING)
    assert ready(queue) == [7]


def test_a_resumption_counts_with_what_still_runs_of_its_sweep(queue: LocalQueue) -> None:
    first, _ = queue.add_jobs([new_job(index, max_parallel=2) for index in range(2)])
    resumed = "/project/runs/sweep/resume-20260102_040506_k3f9/spec.json"
    second, _ = queue.add_jobs([new_job(index, max_parallel=2, spec=resumed) for index in (2, 3)])
    queue.update_job(first, state=JobState.RUNNING)
    assert ready(queue) == [1, 2, 3]
    queue.update_job(second, state=JobState.RUNNING)
    assert ready(queue) == []


def test_what_ended_and_cannot_be_recorded_yet_takes_no_turn_of_its_sweep(queue: LocalQueue) -> None:
    first, *_ = queue.add_jobs([new_job(index, max_parallel=1) for index in range(3)])
    queue.update_job(first, state=JobState.RUNNING, ended_s=5.0)
    assert ready(queue) == [1, 2]


def test_a_delay_counts_in_its_own_boot_only(queue: LocalQueue) -> None:
    (job_id,) = queue.add_jobs([new_job()])
    queue.update_job(job_id, not_before_s=50.0, boot_id=BOOT)
    assert ready(queue, now_s=49.0) == []
    assert ready(queue, now_s=50.0) == [0]
    assert ready(queue, now_s=1.0, boot_id="the next boot") == [0]


def test_a_job_without_its_secret_waits_and_says_so(queue: LocalQueue) -> None:
    (job_id, _) = queue.add_jobs([new_job(0, secrets=("A", "B")), new_job(1)])
    assert ready(queue, "A") == [1]
    queue.note_missing_secrets({"A"})
    assert queue.find_jobs([job_id])[job_id].reason == "waits for B: run any nexa command in a shell where it is set"


def test_an_ended_job_is_not_cancelled(queue: LocalQueue) -> None:
    done, waiting = queue.add_jobs([new_job(0), new_job(1)])
    queue.update_job(done, state=JobState.SUCCEEDED)
    queue.request_cancel([done, waiting, 4711])
    assert [job.job_id for job in queue.list_cancelled()] == [waiting]


def test_thousands_of_jobs_are_found_in_one_query(queue: LocalQueue) -> None:
    ids = queue.add_jobs([new_job(index) for index in range(3_000)])
    assert len(queue.find_states([*ids, 10**9])) == 3_000


def test_the_supervisor_is_the_one_that_came_last(queue: LocalQueue) -> None:
    assert queue.find_supervisor() is None
    for pid in (10, 11):
        queue.record_supervisor(ProcessMark(pid=pid, start_ticks=5))
    assert queue.find_supervisor() == ProcessMark(pid=11, start_ticks=5)


def test_two_processes_may_make_the_file_at_once(tmp_path: Path) -> None:
    with LocalQueue(tmp_path / "queue.sqlite3") as one, LocalQueue(tmp_path / "queue.sqlite3") as other:
        one.add_jobs([new_job()])
        assert other.has_unsettled()


def test_only_its_user_may_read_the_queue(tmp_path: Path) -> None:
    with LocalQueue(tmp_path / "queue.sqlite3"):
        assert (tmp_path / "queue.sqlite3").stat().st_mode & 0o077 == 0


def read_everything(path: Path) -> None:
    with LocalQueue(path) as queue:
        queue.find_runs(["run"])
        queue.list_running()
        queue.find_jobs(range(100))


@pytest.mark.parametrize("cut", [40, 5_000])
def test_a_damaged_file_is_an_error_with_what_to_do(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "queue.sqlite3"
    with LocalQueue(path) as queue:
        queue.add_jobs([new_job(index) for index in range(100)])
    damaged = bytearray(path.read_bytes())
    damaged[cut : cut + 4_000] = b"\xa5" * 4_000
    path.write_bytes(damaged)
    with pytest.raises(StorageError, match="local queue is damaged") as caught:
        read_everything(path)
    assert "move it away" in str(caught.value.hint)


def make_foreign(path: Path, *, state: JobState) -> None:
    """A queue whose tables are another version's, with one job."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TABLE jobs (name TEXT, state TEXT)")
    connection.execute("INSERT INTO jobs VALUES ('theirs', ?)", (state.value,))
    connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.RUNNING, JobState.PREEMPTED])
def test_the_queue_of_another_version_is_left_alone_while_its_jobs_have_not_ended(
    tmp_path: Path, state: JobState
) -> None:
    path = tmp_path / "queue.sqlite3"
    make_foreign(path, state=state)
    with pytest.raises(StorageError, match="1 jobs of another version of nexa have not ended"):
        LocalQueue(path)
    assert sqlite3.connect(path).execute("SELECT name FROM jobs").fetchall() == [("theirs",)]


def test_the_queue_of_another_version_is_made_anew_when_its_jobs_have_ended(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite3"
    make_foreign(path, state=JobState.SUCCEEDED)
    for _ in range(2):
        with LocalQueue(path) as queue:
            queue.add_jobs([new_job()])
            assert list(queue.find_runs([new_job().run_id])) == [new_job().run_id]


def test_a_queue_whose_tables_are_unknown_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StorageError, match="no such table: jobs"):
        LocalQueue(path)
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (99,)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"):
        LocalQueue(tmp_path / "file" / "queue.sqlite3")


def test_a_queue_that_another_process_is_making_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        ending = threading.Timer(0.3, other.execute, ["COMMIT"])
        ending.start()
        with LocalQueue(path) as queue:
            queue.add_jobs([new_job()])
        ending.join()
