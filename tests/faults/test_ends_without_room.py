"""What a run came to is measured when it ends, and recorded when its disk can take it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.faults.namespace import drive


def assert_measured_at_the_end(said: dict[str, Any]) -> None:
    attempt, outcome = said["attempts"][-1], said["outcome"]
    mended_at = datetime.fromisoformat(said["mended_at"])
    assert datetime.fromisoformat(attempt["ended_at"]) < mended_at
    assert outcome["ended_at"] == attempt["ended_at"]
    assert outcome["seconds"] == pytest.approx(sum(each["seconds"] for each in said["attempts"]))
    spanned = datetime.fromisoformat(attempt["ended_at"]) - datetime.fromisoformat(attempt["started_at"])
    assert attempt["seconds"] == pytest.approx(spanned.total_seconds(), abs=0.05)
    assert said["left"] == []


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("project full", "no space left on device"),
        ("all read-only", "read-only file system"),
    ],
)
def test_a_run_that_ends_without_room_for_its_record_is_recorded_as_it_ended(
    tmp_path: Path, case: str, reason: str
) -> None:
    said = drive("ending_driver", tmp_path, case)
    assert_measured_at_the_end(said)
    assert said["outcome"]["state"] == "SUCCEEDED"
    assert said["attempts"][0]["exit_code"] == 0
    assert said["log"] == "went\n"
    first, second = said["looks"]
    assert first["reason"].startswith("it ended and cannot be recorded yet: ")
    assert first["reason"].endswith(reason)
    assert first["seconds"] == second["seconds"]


def test_on_one_full_disk_the_room_that_was_reserved_holds_the_record(tmp_path: Path) -> None:
    said = drive("ending_driver", tmp_path, "all full")
    assert_measured_at_the_end(said)
    assert "supervisor leaves" not in said["said"]
    assert "ends/" in said["said"]
    # The program's own last word found no room, so it failed, and can say nothing of why.
    failure = said["outcome"]["failure"]
    assert (failure["kind"], said["attempts"][0]["exit_code"]) == ("storage", 1)
    assert failure["message"].startswith("ended with status 1; scratch ")
    assert failure["message"].endswith("no space left on device")


def test_the_time_until_a_lost_attempt_can_be_recorded_is_not_the_runs(tmp_path: Path) -> None:
    said = drive("ending_driver", tmp_path, "entry killed")
    assert_measured_at_the_end(said)
    failure = said["outcome"]["failure"]
    assert failure["kind"] == "lost"
    assert "killed from outside" in failure["message"]
    assert failure["message"].endswith("no space left on device")


def test_a_full_disk_uses_up_one_attempt_and_the_next_waits_for_room(tmp_path: Path) -> None:
    said = drive("ending_driver", tmp_path, "retried")
    first, second = said["attempts"]
    assert (first["state"], first["failure"]["kind"]) == ("FAILED", "storage")
    assert second["state"] == "SUCCEEDED"
    assert datetime.fromisoformat(second["started_at"]) > datetime.fromisoformat(said["mended_at"])
    (look,) = said["looks"]
    assert (look["state"], look["attempt"]) == ("PENDING", 1)
    assert look["reason"].endswith("no space left on device")
