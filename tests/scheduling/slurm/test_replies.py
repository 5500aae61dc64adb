"""What Slurm prints, recorded from real clusters, read as the same values whatever the form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nexa_contracts.errors import UnreadableReply
from nexa_infra.scheduling.slurm.replies import (
    SlurmJob,
    parse_account,
    parse_limits,
    parse_queue_json,
    parse_queue_text,
)

RECORDED = Path(__file__).parent / "recorded"


def read(name: str) -> str:
    return (RECORDED / name).read_text(encoding="utf-8")


def test_text_and_json_of_one_moment_are_equal() -> None:
    jobs = parse_queue_text(read("squeue_22.05.txt"))
    assert parse_queue_json(read("squeue_22.05.json")) == jobs
    assert len(jobs) == 14


def test_each_end_is_told_apart() -> None:
    jobs = {job.name: job for job in parse_queue_text(read("squeue_22.05.txt"))}
    ends = {name: (jobs[name].state, jobs[name].exit_status, jobs[name].nodes) for name in jobs}
    assert ends["ok"] == ("COMPLETED", 0, "n1")
    assert ends["run_bad"] == ("FAILED", 7, "n1")
    assert ends["killed"] == ("FAILED", -9, "n1")
    assert ends["lost"] == ("NODE_FAIL", None, "n3")
    assert ends["too_long"] == ("TIMEOUT", None, "n1")
    assert ends["wide"] == ("RUNNING", None, "n[1-2]")
    assert jobs["again"].restarts == 1
    assert jobs["again"].reason == "ReqNodeNotAvail"


def test_tasks_that_wait_together_are_one_record() -> None:
    tasks = [job for job in parse_queue_text(read("squeue_22.05.txt")) if job.name == "sweep_a.c0"]
    assert {(job.job_id, job.task_ids) for job in tasks} == {
        ("6", (2, 5, 9, 10, 11, 12)),
        ("6_0", (0,)),
        ("6_1", (1,)),
    }
    assert {job.array_job_id for job in tasks} == {"6"}


def test_only_this_users_jobs_are_taken_from_a_list_of_all() -> None:
    assert parse_queue_json(read("squeue_22.05.json"), user_id=4711) == ()


def test_newer_json_says_the_same() -> None:
    """Since 23.02 numbers are objects, since 23.11 a state is a list and the exit code is taken apart."""

    def number(value: int | None) -> dict[str, object]:
        return {"set": value is not None, "infinite": False, "number": value or 0}

    job = {
        "job_id": 10,
        "array_job_id": number(5),
        "array_task_id": number(0),
        "array_task_string": "",
        "name": "sweep_a.c0",
        "job_state": ["FAILED", "COMPLETING"],
        "state_reason": "NonZeroExitCode",
        "exit_code": {"status": ["ERROR"], "return_code": number(7), "signal": {"id": number(None), "name": ""}},
        "restart_cnt": 2,
        "nodes": "n1",
        "user_id": 0,
    }
    text = json.dumps({"jobs": [job, {**job, "array_task_id": number(3), "job_state": ["FAILED"]}]})
    common: dict[str, Any] = {
        "array_job_id": "5",
        "name": "sweep_a.c0",
        "reason": "NonZeroExitCode",
        "restarts": 2,
        "nodes": "n1",
    }
    assert parse_queue_json(text) == (
        SlurmJob(job_id="5_0", task_ids=(0,), state="COMPLETING", exit_status=None, **common),
        SlurmJob(job_id="5_3", task_ids=(3,), state="FAILED", exit_status=7, **common),
    )


def test_accounting_reads_like_the_queue() -> None:
    jobs = {job.name: job for job in parse_account(read("sacct_22.05.txt"))}
    assert (jobs["ok"].state, jobs["ok"].exit_status) == ("COMPLETED", 0)
    assert (jobs["run_bad"].state, jobs["run_bad"].exit_status) == ("FAILED", 7)
    assert (jobs["killed"].state, jobs["killed"].exit_status) == ("FAILED", -9)
    assert (jobs["cancelled"].state, jobs["cancelled"].nodes) == ("CANCELLED", "n1")
    assert (jobs["two words"].state, jobs["two words"].nodes) == ("PENDING", "")
    assert jobs["too_long"].state == "TIMEOUT"
    tasks = {job.task_ids: job.state for job in parse_account(read("sacct_22.05.txt")) if job.array_job_id == "6"}
    assert tasks == {(0,): "CANCELLED", (1,): "CANCELLED", (2, 5, 9, 10, 11, 12): "CANCELLED"}


def test_a_name_with_a_bar_or_a_line_end_does_not_confuse_others() -> None:
    line = "7|7|N/A|RUNNING|0|0|n1|None|{}|\n"
    text = line.format("a|b") + line.format("two\nlines|8|8") + line.format("last")
    assert [job.name for job in parse_queue_text(text)] == ["a|b", "two", "last"]


@pytest.mark.parametrize("text", ["squeue: help", "1|2|3", "5|5|1,2...%1|PENDING|0|0||None|a|"])
def test_another_form_is_not_guessed_at(text: str) -> None:
    with pytest.raises(UnreadableReply, match="squeue"):
        parse_queue_text(text)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"jobs": [{"job_id": 1}]}', '{"jobs": 5}'])
def test_another_json_is_not_guessed_at(text: str) -> None:
    with pytest.raises(UnreadableReply, match="squeue --json"):
        parse_queue_json(text)


def test_another_account_is_not_guessed_at() -> None:
    with pytest.raises(UnreadableReply, match="sacct"):
        parse_account("no jobs today")
    assert parse_account("6_[1,2,3...|PENDING|0:0|None assigned|a") == ()


def test_nothing_is_no_jobs() -> None:
    assert (parse_queue_text(""), parse_account(""), parse_queue_json('{"jobs": []}')) == ((), (), ())


def test_limits_are_read_and_what_is_not_said_is_unknown() -> None:
    limits = parse_limits(read("config_22.05.txt"))
    assert (limits.cluster, limits.version, limits.max_array_size) == ("nexatest", "22.05.8", 1001)
    assert (limits.max_job_count, limits.min_job_age_s, limits.kill_wait_s) == (50_000, 300, 3)
    assert (limits.has_accounting, limits.refuses_impossible) == (False, False)
    assert parse_limits("").max_array_size is None
    assert parse_limits("AccountingStorageType = accounting_storage/slurmdbd\nEnforcePartLimits = ALL").has_accounting
