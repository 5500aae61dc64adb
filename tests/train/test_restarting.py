"""What a training that torchrun may start again says of its crash."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from nexa_infra.launchers.crashes import ERROR_FILE
from nexa_train.job import Job
from nexa_train.restarting import tell_crash
from tests.train.training_site import Site


def under_torchrun(job: Job, error_file: Path) -> Job:
    return replace(job, environment={**job.environment, ERROR_FILE: str(error_file)})


def test_a_training_that_crashes_says_at_which_step(site: Site, stack: None, tmp_path: Path) -> None:
    job = under_torchrun(site.job("training.max_steps=8", "training.log_every=3"), tmp_path / "error.json")
    job.run_dir.metrics.mkdir(parents=True)  # so that the first line of metrics, at step 1, finds no place
    ran = site.train(job)
    told = json.loads((tmp_path / "error.json").read_text())
    assert ran.result.failure is not None
    assert told["message"] == f"StorageError: {ran.result.failure.message}"
    assert told["step"] == 1


def test_what_was_said_first_stays(site: Site, tmp_path: Path) -> None:
    job = under_torchrun(site.job(), tmp_path / "error.json")
    tell_crash(job, ValueError("bad row"), step=7)
    tell_crash(job, KeyError("x"))
    told = json.loads((tmp_path / "error.json").read_text())
    assert (told["message"], told["step"]) == ("ValueError: bad row", 7)


def test_without_torchrun_or_room_nothing_is_said(site: Site, tmp_path: Path) -> None:
    tell_crash(site.job(), ValueError("bad row"))
    tell_crash(under_torchrun(site.job(), tmp_path / "gone" / "error.json"), ValueError("bad row"))
