"""A job that Slurm starts again while its earlier start still lives: never two programs of a run at a time."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from nexa_contracts.states import JobState
from nexa_infra.scheduling.succession import has_ended, note_process
from tests.scheduling.local_machine import wait_until
from tests.scheduling.slurm_job import RUNNING, end
from tests.scheduling.test_slurm_entry import FIRST, attempts, is_settled, job_of, outcome

SWEARS = """
import os, time
until = None if os.environ['NEXA_ATTEMPT'] == '1' else time.monotonic() + 0.5
while until is None or time.monotonic() < until:
    open('sworn', 'a').write(os.environ['NEXA_ATTEMPT'])
    time.sleep(0.02)
"""


def test_the_earlier_start_ends_its_program_before_the_later_one_begins_its_own(tmp_path: Path) -> None:
    job = job_of(tmp_path, SWEARS, max_retries=1)
    earlier = job.start(*FIRST)
    wait_until((tmp_path / "sworn").exists, what="the first program")
    assert job.restart(*FIRST) == 0
    assert end(earlier) == 0
    sworn = (tmp_path / "sworn").read_text()
    assert sworn == "1" * sworn.count("1") + "2" * sworn.count("2")
    assert [each.state for each in attempts(tmp_path)] == [JobState.NODE_FAILED, JobState.SUCCEEDED]
    assert outcome(tmp_path).state is JobState.SUCCEEDED
    assert job.requeues == []


def test_a_start_that_the_controller_has_forgotten_leaves_the_run_to_the_one_it_means(tmp_path: Path) -> None:
    job = job_of(tmp_path, SWEARS, max_retries=1)
    meant = job.start(*FIRST)
    wait_until((tmp_path / "sworn").exists, what="the first program")
    job.says = f"JobId=4711 {RUNNING}"
    assert job.run(*FIRST) == 0
    assert attempts(tmp_path) == []
    assert not is_settled(tmp_path)
    assert "is left to another start of this job" in (tmp_path / "slurm.out").read_text()
    meant.send_signal(signal.SIGKILL)
    end(meant)


def test_only_what_is_known_to_have_ended_has() -> None:
    ours = note_process()
    assert not has_ended(ours)
    assert has_ended({**ours, "start_ticks": 1})
    assert not has_ended({**ours, "start_ticks": 1, "boot_id": "another machine"})
    assert not has_ended({**ours, "start_ticks": 1, "namespace": "pid:[1]"})
    assert not has_ended({})
    assert ours["pid"] == os.getpid()
