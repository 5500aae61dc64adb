"""A full disk is no fault of the run's: on Slurm too it waits in its allocation, and uses up no retry by waiting."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.namespace import drive


@pytest.mark.parametrize(
    ("case", "attempts"), [("before it starts", ["SUCCEEDED"]), ("while it runs", ["FAILED", "SUCCEEDED"])]
)
def test_a_run_waits_for_room_on_scratch(tmp_path: Path, case: str, attempts: list[str]) -> None:
    said = drive("slurm_row_driver", tmp_path, case)
    assert said == {"status": 0, "state": "SUCCEEDED", "attempts": attempts}
