"""What a task asks for that takes rows of any length."""

from __future__ import annotations

import pytest

from nexa_contracts.resources import Resources
from nexa_infra.testing.backend import make_request
from tests.scheduling.slurm.fake_site import GOOD, FakeSite


@pytest.mark.parametrize(
    ("walltime", "rows_per_task", "time", "warning"),
    [
        ("1m", 1, "0-00:01:00", "USR1@15"),
        ("30d", 1, "30-00:00:00", "USR1@120"),
        ("1000h", 3, "125-00:00:00", "USR1@120"),
        ("90.5s", 2, "0-00:03:01", "USR1@45"),
    ],
)
def test_a_task_has_the_time_of_all_its_rows_and_is_warned_in_it(
    site: FakeSite, walltime: str, rows_per_task: int, time: str, warning: str
) -> None:
    request = make_request(site.root, GOOD, GOOD, GOOD, resources=Resources(walltime=walltime))
    (command,) = site.backend.plan(request, site.config(rows_per_task=rows_per_task)).commands
    assert f"--time={time}" in command
    assert f"--signal=B:{warning}" in command
    assert command[-1] == warning
