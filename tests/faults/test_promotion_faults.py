"""A promotion is struck at its system calls, and killed at random moments; what is left is judged by the driver.

These tests are slow because only real kills, and real errors of real calls, show what a crash leaves. They sample;
`benchmarks/fault_campaign.py` strikes everywhere.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from nexa_infra.process import SystemRunner

DRIVER = Path(__file__).with_name("promote_driver.py")


def drive(folder: Path, *options: str) -> list[dict[str, Any]]:
    completed = SystemRunner().run([sys.executable, str(DRIVER), str(folder), *options], timeout_s=900)
    lines = [json.loads(line) for line in completed.stdout.splitlines()]
    assert lines, completed.stderr
    assert "summary" in lines[-1], completed.stderr
    return lines[:-1]


def assert_nothing_by_half(rounds: list[dict[str, Any]]) -> None:
    assert [each for each in rounds if each["problems"]] == []


def test_killed_at_a_call_that_changes_something_nothing_is_there_by_half(tmp_path: Path) -> None:
    rounds = drive(tmp_path, "--faults", "KILL", "--every", "1")
    assert_nothing_by_half(rounds)
    assert {each["ending"] for each in rounds} == {"killed"}
    assert {each["visible"] for each in rounds} == {True, False}, "kills before and after the rename"


@pytest.mark.parametrize("fault", ["EIO", "ENOSPC"])
def test_a_call_that_fails_is_an_error_for_a_person_and_nothing_is_there_by_half(tmp_path: Path, fault: str) -> None:
    rounds = drive(tmp_path, "--faults", fault, "--every", "2")
    assert_nothing_by_half(rounds)
    assert "error" in {each["ending"] for each in rounds}


def test_a_call_that_only_reads_may_fail_too(tmp_path: Path) -> None:
    assert_nothing_by_half(drive(tmp_path, "--faults", "EIO", "--all-calls", "--every", "6"))


def test_struck_while_several_threads_copy_nothing_is_there_by_half(tmp_path: Path) -> None:
    assert_nothing_by_half(drive(tmp_path, "--files", "5", "--every", "9"))


def test_many_small_files_that_cannot_be_flushed_are_not_promoted(tmp_path: Path) -> None:
    rounds = drive(tmp_path, "--files", "300", "--only", "syncfs")
    assert_nothing_by_half(rounds)
    assert [(each["ending"], each["visible"]) for each in rounds] == [
        ("killed", False),
        ("error", False),
        ("error", False),
    ]


@pytest.mark.parametrize("mode", ["kills", "promoter-kills"])
def test_killed_at_any_moment_nothing_is_there_by_half(tmp_path: Path, mode: str) -> None:
    rounds = drive(tmp_path, "--mode", mode, "--rounds", "12")
    assert_nothing_by_half(rounds)
    assert "killed" in {each["ending"] for each in rounds}
