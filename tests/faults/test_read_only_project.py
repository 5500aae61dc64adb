"""In a project that cannot be written, everything can be looked at, and what cannot be done is said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.namespace import drive

LOOKING = (
    "runs", "status", "show last", "logs last", "compare last last", "cost summary --by month", "leaderboard",
    "cancel last",
)  # fmt: skip


@pytest.mark.parametrize("case", ["with an index", "without an index"])
def test_a_read_only_runs_folder_can_be_looked_at_and_a_launch_says_why_not(tmp_path: Path, case: str) -> None:
    found = drive("looking_driver", tmp_path, case)
    said, (run_id,) = found["said"], found["runs"]
    for command in LOOKING:
        status, stdout, stderr = said[command]
        assert status == 0, command
        assert stdout, command
        assert "read-only" not in stderr, command
    assert run_id in said["runs"][1]
    for command in ("launch hello.yaml", "sweep sweep.yaml"):
        status, stdout, stderr = said[command]
        assert (status, stdout) == (1, ""), command
        message, *hint = stderr.splitlines()
        assert message.startswith("nexa: /")
        assert message.endswith(": read-only file system")
        assert all(line.startswith("nexa: hint: remount it writable") for line in hint)
    status, stdout, _ = said["doctor"]
    assert "runs is mounted read-only" in stdout
    assert status == 1
