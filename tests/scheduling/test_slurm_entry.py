"""The job's side of Slurm on real processes; what Slurm itself does is in tests/cluster."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from nexa_contracts.run import AttemptRecord, RunOutcome
from nexa_contracts.states import JobState
from nexa_infra.process import SystemRunner
from nexa_infra.scheduling.fence import start_attempt
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import read_attempts, read_outcome
from nexa_infra.testing.backend import make_entry, make_request
from nexa_infra.testing.clock import FakeClock
from tests.scheduling.local_machine import wait_until
from tests.scheduling.slurm_job import CANCELLED, NODE, SlurmJob, end, make_job, warn

FIRST = ("--offset", "0", "--rows", "4")
LEAVES = """
import os, signal, sys, time
attempt = os.environ['NEXA_ATTEMPT']
if attempt in {attempts}:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    open('ready-' + attempt, 'w').close()
    time.sleep(600)
print('attempt', attempt, 'goes on')
"""


def job_of(root: Path, *codes: str, **changes: Any) -> SlurmJob:
    """Return the job whose task holds these rows: task 3 of an array, 4 rows each, so that the first index is 12."""
    request = make_request(root, *[""] * 12, *codes, **changes)
    return make_job(root, request)


def run_id(row: int = 0) -> str:
    return make_entry(Path(), "", index=12 + row).run_id


def attempts(root: Path, row: int = 0) -> list[AttemptRecord]:
    return list(read_attempts(Project(root), run_id(row)))


def outcome(root: Path, row: int = 0) -> RunOutcome:
    return read_outcome(Project(root), run_id(row))


def is_settled(root: Path, row: int = 0) -> bool:
    return Project(root).outcome(run_id(row)).exists()


def test_a_task_takes_its_rows_one_after_another_and_no_others(tmp_path: Path) -> None:
    job = job_of(tmp_path, *["open('order', 'a').write(__import__('os').environ['NEXA_RUN_ID'][-2:] + ' ')"] * 5)
    assert job.run(*FIRST) == 0
    assert (tmp_path / "order").read_text() == "12 13 14 15 "
    assert [outcome(tmp_path, row).state for row in range(4)] == [JobState.SUCCEEDED] * 4
    assert not is_settled(tmp_path, 4)
    assert job.asked == []  # a task that runs through costs the controller nothing


def test_a_failed_row_does_not_hold_up_the_next(tmp_path: Path) -> None:
    job = job_of(tmp_path, "raise SystemExit(65)", "print('two')")
    assert job.run(*FIRST) == 65
    assert (outcome(tmp_path, 0).state, outcome(tmp_path, 1).state) == (JobState.FAILED, JobState.SUCCEEDED)


def test_a_crash_is_tried_again_in_the_same_allocation(tmp_path: Path) -> None:
    code = "import os; raise SystemExit(0 if os.environ['NEXA_ATTEMPT'] == '2' else 3)"
    job = job_of(tmp_path, code, max_retries=1)
    assert job.run(*FIRST) == 0
    assert [each.state for each in attempts(tmp_path)] == [JobState.FAILED, JobState.SUCCEEDED]
    assert job.requeues == []


def test_without_time_for_another_attempt_the_job_goes_back_into_the_queue(tmp_path: Path) -> None:
    code = "import os; raise SystemExit(0 if os.environ['NEXA_ATTEMPT'] == '2' else open('at', 'w').close() or 3)"
    job = job_of(tmp_path, code, max_retries=1)
    child = job.start(*FIRST)
    job.say("JobState=RUNNING Restarts=0 RunTime=01:59:58 TimeLimit=02:00:00")
    assert end(child) == 0
    assert job.requeues == ["requeue 12_3"]
    assert not is_settled(tmp_path)
    assert job.restart(*FIRST) == 0
    assert outcome(tmp_path).state is JobState.SUCCEEDED


def test_a_warning_lets_the_program_save_and_puts_the_task_back_into_the_queue(tmp_path: Path) -> None:
    job = job_of(tmp_path, LEAVES.format(attempts=["1"]), "print('next')", max_time_outs=1)
    child = job.start(*FIRST)
    warn(child, signal.SIGUSR1, when=tmp_path / "ready-1")
    assert end(child) == 0
    assert job.requeues == ["requeue 12_3"]
    (attempt,) = attempts(tmp_path)
    assert (attempt.state, attempt.exit_code) == (JobState.TIMED_OUT, 75)
    assert not is_settled(tmp_path, 0)
    assert not is_settled(tmp_path, 1)
    assert job.restart(*FIRST) == 0
    assert [each.state for each in attempts(tmp_path)] == [JobState.TIMED_OUT, JobState.SUCCEEDED]
    assert outcome(tmp_path, 1).attempts == 1


def test_time_outs_have_a_budget_of_their_own(tmp_path: Path) -> None:
    job = job_of(tmp_path, LEAVES.format(attempts=["1"]), "print('next')", max_retries=9, max_time_outs=0)
    child = job.start(*FIRST)
    warn(child, signal.SIGUSR1, when=tmp_path / "ready-1")
    assert end(child) == 0
    assert outcome(tmp_path).state is JobState.TIMED_OUT
    assert job.requeues == ["requeue 12_3"]  # for the row behind it, which has used up nothing
    assert job.restart(*FIRST) == 0
    assert outcome(tmp_path, 1).state is JobState.SUCCEEDED
    assert len(attempts(tmp_path)) == 1


def test_the_last_row_of_a_task_that_may_not_go_on_ends_the_job(tmp_path: Path) -> None:
    job = job_of(tmp_path, LEAVES.format(attempts=["1"]))
    child = job.start(*FIRST)
    warn(child, signal.SIGUSR1, when=tmp_path / "ready-1")
    assert end(child) == 75
    assert outcome(tmp_path).state is JobState.TIMED_OUT
    assert job.requeues == []


def test_a_preempted_run_goes_on_whatever_its_other_budgets(tmp_path: Path) -> None:
    job = job_of(tmp_path, LEAVES.format(attempts=["1"]), max_retries=0, max_time_outs=0)
    child = job.start(*FIRST)
    warn(child, signal.SIGTERM, when=tmp_path / "ready-1")
    assert end(child) == 0
    assert attempts(tmp_path)[0].state is JobState.PREEMPTED
    assert job.requeues == ["requeue 12_3"]
    assert job.restart(*FIRST) == 0
    assert outcome(tmp_path).state is JobState.SUCCEEDED


def test_a_program_that_does_not_know_sigterm_has_not_crashed_when_its_place_is_taken(tmp_path: Path) -> None:
    code = "import time; open('ready-1', 'w').close(); time.sleep(600)"
    job = job_of(tmp_path, code, max_preemptions=0)
    child = job.start(*FIRST)
    warn(child, signal.SIGTERM, when=tmp_path / "ready-1")
    assert end(child) != 0
    (attempt,) = attempts(tmp_path)
    assert attempt.state is JobState.PREEMPTED
    assert attempt.failure is not None
    assert attempt.failure.message == "its place was taken, and it was ended by SIGTERM"
    assert outcome(tmp_path).state is JobState.FAILED
    assert job.requeues == []


def test_a_cancelled_job_is_cancelled_with_all_its_rows_and_not_started_again(tmp_path: Path) -> None:
    job = job_of(tmp_path, LEAVES.format(attempts=["1"]), "print('next')")
    child = job.start(*FIRST)
    wait_until((tmp_path / "ready-1").exists, what="the program")
    job.say(CANCELLED)
    warn(child, signal.SIGTERM, when=tmp_path / "ready-1")
    for program in psutil.Process(child.pid).children(recursive=True):
        program.terminate()  # that of scancel comes to every process of a job
    assert end(child) != 0
    assert [outcome(tmp_path, row).state for row in range(2)] == [JobState.CANCELLED] * 2
    assert job.requeues == []


def test_a_cancel_while_it_saves_after_a_warning_is_not_undone_by_a_requeue(tmp_path: Path) -> None:
    code = LEAVES.replace("sys.exit(75)", "open('saving', 'w').close() or time.sleep(1) or sys.exit(75)")
    job = job_of(tmp_path, code.format(attempts=["1"]), max_time_outs=5)
    child = job.start(*FIRST)
    warn(child, signal.SIGUSR1, when=tmp_path / "ready-1")
    wait_until((tmp_path / "saving").exists, what="the program saves")
    job.say(CANCELLED)
    assert end(child) != 0
    assert outcome(tmp_path).state is JobState.CANCELLED
    assert job.requeues == []


def test_a_job_that_slurm_will_not_start_again_ends_on_record(tmp_path: Path) -> None:
    job = job_of(tmp_path, LEAVES.format(attempts=["1"]), max_time_outs=5)
    (job.folder / "refusal").write_text("scontrol: error: Requested operation is presently disabled\n")
    child = job.start(*FIRST)
    warn(child, signal.SIGUSR1, when=tmp_path / "ready-1")
    assert end(child) != 0
    ended = outcome(tmp_path)
    assert ended.state is JobState.TIMED_OUT
    assert ended.failure is not None
    assert "Requested operation is presently disabled" in ended.failure.message


def test_a_job_that_the_controller_has_in_its_queue_already_is_not_refused(tmp_path: Path) -> None:
    job = job_of(tmp_path, LEAVES.format(attempts=["1"]), max_retries=0)
    (job.folder / "refusal").write_text("Job is pending execution for job 12_3\n")
    child = job.start(*FIRST)
    job.say("JobState=PENDING Restarts={restarts} RunTime=00:00:00 TimeLimit=02:00:00")
    warn(child, signal.SIGUSR1, when=tmp_path / "ready-1")
    assert end(child) == 0
    assert not is_settled(tmp_path)
    assert job.restart(*FIRST) == 0
    assert outcome(tmp_path).state is JobState.SUCCEEDED


def test_a_program_that_does_not_leave_before_the_time_limit_is_ended_in_time_for_a_requeue(tmp_path: Path) -> None:
    code = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('ready-1', 'w').close()"
    code += "; os.environ['NEXA_ATTEMPT'] == '1' and time.sleep(600)"
    job = job_of(tmp_path, code, max_time_outs=1)
    child = job.start(*FIRST)
    job.say("JobState=RUNNING Restarts={restarts} RunTime=01:59:58 TimeLimit=02:00:00")
    warn(child, signal.SIGUSR1, when=tmp_path / "ready-1")
    assert end(child) == 0
    assert job.requeues == ["requeue 12_3"]
    assert [each.state for each in attempts(tmp_path)] == [JobState.TIMED_OUT]
    assert job.restart(*FIRST) == 0
    assert outcome(tmp_path).state is JobState.SUCCEEDED


def test_a_run_of_another_job_is_left_alone(tmp_path: Path) -> None:
    job = job_of(tmp_path, "print('mine')", "print('too')")
    folder = Project(tmp_path).run(run_id())
    folder.mkdir(parents=True)
    theirs = {"cluster": "test", "job_id": "99_3", "name": "sweep.c0"}
    (folder / "owner.json").write_text(json.dumps(theirs))
    assert job.run(*FIRST) == 0
    assert not is_settled(tmp_path)
    assert outcome(tmp_path, 1).state is JobState.SUCCEEDED
    assert "belongs to job 99_3" in (tmp_path / "slurm.out").read_text()


@pytest.mark.parametrize("retries", [0, 1])
def test_an_attempt_whose_node_died_is_recorded_by_its_successor(tmp_path: Path, retries: int) -> None:
    code = LEAVES.format(attempts=["1"])
    job = job_of(tmp_path, code, max_retries=retries)
    child = job.start(*FIRST)
    run_dir = Project(tmp_path).run_dir(run_id())
    warn(child, signal.SIGKILL, when=tmp_path / "ready-1")
    end(child)
    assert not run_dir.attempt(1).exists()
    run_dir.metrics.write_text('{"attempt": 1, "step": 17}\n')
    job.restart(*FIRST)
    lost = attempts(tmp_path)[0]
    assert (lost.state, lost.step, lost.hostname) == (JobState.NODE_FAILED, 17, NODE)
    assert lost.failure is not None
    assert lost.failure.kind == "lost"
    assert {each.hostname for each in attempts(tmp_path)} == {NODE}
    expected = JobState.SUCCEEDED if retries else JobState.NODE_FAILED
    assert (outcome(tmp_path).state, outcome(tmp_path).attempts) == (expected, 1 + retries)


def test_an_attempt_that_was_killed_while_it_saved_uses_up_no_retry(tmp_path: Path) -> None:
    code = LEAVES.replace("sys.exit(75)", "open('saving', 'w').close() or time.sleep(600)")
    job = job_of(tmp_path, code.format(attempts=["1"]), max_retries=0, max_time_outs=1)
    child = job.start(*FIRST)
    warn(child, signal.SIGUSR1, when=tmp_path / "ready-1")
    warn(child, signal.SIGKILL, when=tmp_path / "saving")
    end(child)
    assert job.restart(*FIRST) == 0
    assert [each.state for each in attempts(tmp_path)] == [JobState.TIMED_OUT, JobState.SUCCEEDED]


def test_an_entry_that_was_thought_dead_neither_records_nor_requeues(tmp_path: Path) -> None:
    job = job_of(tmp_path, LEAVES.format(attempts=["1"]), max_time_outs=5, max_retries=5)
    zombie = job.start(*FIRST)
    warn(zombie, signal.SIGSTOP, when=tmp_path / "ready-1")
    assert job.restart(*FIRST) == 0
    before = [each.model_dump() for each in attempts(tmp_path)]
    assert [each["state"] for each in before] == [JobState.NODE_FAILED, JobState.SUCCEEDED]
    zombie.send_signal(signal.SIGCONT)
    zombie.send_signal(signal.SIGUSR1)
    assert end(zombie) == 0
    assert [each.model_dump() for each in attempts(tmp_path)] == before
    assert job.requeues == []


def test_an_attempt_that_another_process_has_begun_is_left_to_it(tmp_path: Path) -> None:
    job = job_of(tmp_path, "open('ran', 'w').close()", max_retries=5)
    run_dir = Project(tmp_path).run_dir(run_id())
    start_attempt(run_dir, 2, restarts=1, clock=FakeClock())
    run_dir.start(1).write_bytes(run_dir.start(2).read_bytes())
    job.run(*FIRST)
    assert not (tmp_path / "ran").exists()


def test_a_task_without_rows_says_so(tmp_path: Path) -> None:
    job = make_job(tmp_path, make_request(tmp_path, "print()"))
    assert job.run(*FIRST) == 2
    assert "no entry 12 to 15, the rows of task 3" in (tmp_path / "slurm.out").read_text()


def test_the_entry_loads_no_pydantic() -> None:
    code = (
        "import sys, nexa_infra.scheduling.slurm_entry; "
        "sys.exit(sorted({'pydantic', 'torch', 'numpy', 'psutil'} & set(sys.modules)) or 0)"
    )
    completed = SystemRunner().run([sys.executable, "-c", code], timeout_s=120)
    assert (completed.returncode, completed.stderr) == (0, "")
