"""Which signal warns a job is the site's choice; the others are the program's."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from nexa_contracts.errors import ConfigError
from nexa_contracts.site import SlurmSite
from nexa_contracts.states import JobState
from nexa_infra.scheduling.slurm.options import render_warning
from nexa_infra.scheduling.slurm.own_job import LimitWarning
from nexa_infra.testing.backend import make_request
from tests.scheduling.slurm_job import SlurmJob, end, make_job, warn
from tests.scheduling.test_slurm_entry import attempts, outcome

HEARS = """
import os, signal, sys, time
heard = []
def note(number, _):
    heard.append(signal.Signals(number).name)
    open('heard', 'w').write(' '.join(heard))
for each in (signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(each, note)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
open('ready', 'w').close()
while not os.path.exists('go'):
    time.sleep(0.02)
"""


def start(root: Path, warning: str) -> tuple[SlurmJob, list[str]]:
    """Return a job of one row whose site chose this warning, and the arguments of its entry."""
    job = make_job(root, make_request(root, *[""] * 12, HEARS, max_time_outs=1))
    return job, ["--offset", "0", "--rows", "4", "--warning", warning]


@pytest.mark.parametrize(("warning", "number"), [("USR1@60", signal.SIGUSR1), ("USR2@60", signal.SIGUSR2)])
def test_the_signal_that_the_site_names_warns(tmp_path: Path, warning: str, number: signal.Signals) -> None:
    job, arguments = start(tmp_path, warning)
    child = job.start(*arguments)
    warn(child, number, when=tmp_path / "ready")
    assert end(child) == 0
    assert job.requeues == ["requeue 12_3"]
    assert [(each.state, each.exit_code) for each in attempts(tmp_path)] == [(JobState.TIMED_OUT, 75)]
    assert not (tmp_path / "heard").exists()


@pytest.mark.parametrize(("warning", "number"), [("USR1@60", signal.SIGUSR2), ("USR2@60", signal.SIGUSR1)])
def test_the_other_one_is_the_programs(tmp_path: Path, warning: str, number: signal.Signals) -> None:
    job, arguments = start(tmp_path, warning)
    child = job.start(*arguments)
    warn(child, number, when=tmp_path / "ready")
    warn(child, number, when=tmp_path / "heard")
    (tmp_path / "go").touch()
    assert end(child) == 0
    assert outcome(tmp_path).state is JobState.SUCCEEDED
    assert set((tmp_path / "heard").read_text().split()) == {number.name}
    assert job.asked == []


@pytest.mark.parametrize(("warning", "state"), [("TERM@3600", JobState.TIMED_OUT), ("USR1@3600", JobState.PREEMPTED)])
def test_a_sigterm_is_the_warning_as_early_as_the_site_wants_it(tmp_path: Path, warning: str, state: JobState) -> None:
    job, arguments = start(tmp_path, warning)
    child = job.start(*arguments)
    job.say("JobState=RUNNING Restarts={restarts} RunTime=01:00:00 TimeLimit=02:00:00")
    warn(child, signal.SIGTERM, when=tmp_path / "ready")
    assert end(child) == 0
    assert [each.state for each in attempts(tmp_path)] == [state]


def test_slurm_is_asked_for_the_signal_that_the_job_is_told_of() -> None:
    assert render_warning(SlurmSite(), 3600.0) == "USR1@120"
    assert render_warning(SlurmSite(signal="USR2", signal_lead="90s"), 3600.0) == "USR2@90"
    assert LimitWarning.parse("USR2@90") == LimitWarning(signal.SIGUSR2, 90.0)


@pytest.mark.parametrize(("walltime_s", "lead_s"), [(600.0, 120), (480.0, 120), (60.0, 15), (3.0, 1), (1e9, 120)])
def test_a_short_job_is_warned_in_its_last_quarter(walltime_s: float, lead_s: int) -> None:
    assert render_warning(SlurmSite(), walltime_s) == f"USR1@{lead_s}"


@pytest.mark.parametrize("text", ["", "USR1", "USR1@", "KILL@60", "USR1@60\n", "B:USR1@60", "USR1@-1"])
def test_what_is_no_warning_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--warning"):
        LimitWarning.parse(text)


def test_an_entry_with_a_warning_that_is_none_says_so(tmp_path: Path) -> None:
    job, arguments = start(tmp_path, "STOP@3")
    assert job.run(*arguments) == 2
    assert "found 'STOP@3'; allowed: USR1, USR2 or TERM" in (tmp_path / "slurm.out").read_text()
