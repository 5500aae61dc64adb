"""Experiment trackers get the loss, offline, in folders of the run."""

from __future__ import annotations

import json
import sqlite3
from importlib import import_module

import pytest

from nexa_contracts.errors import ConfigError
from nexa_contracts.exit_codes import WorkExit
from nexa_train.trackers import check_trackers, tracker_environment
from tests.train.training_site import Ran, Site

DEADLINE_S = 240.0


def test_every_tracker_gets_the_loss_without_a_network(site: Site) -> None:
    # In a program of its own: trackers read their variables when they are imported, and close when it ends.
    job = site.job("report_to=[tensorboard, wandb, mlflow, trackio]", "training.max_steps=3", "training.log_every=1")
    child = site.start(job)
    _, said = child.communicate(timeout=DEADLINE_S)
    assert child.returncode == WorkExit.DONE, said
    ran = Ran(child.returncode, job)
    losses = [loss for _, loss in ran.curve]
    folder = job.run_dir.path

    (events,) = (folder / "tensorboard").rglob("events.*")
    reader = import_module("tensorboard.backend.event_processing.event_accumulator").EventAccumulator(str(events))
    assert [scalar.value for scalar in reader.Reload().Scalars("train/loss")] == pytest.approx(losses)
    with sqlite3.connect(folder / "mlflow.db") as database:
        rows = database.execute("select value from metrics where key = 'loss' order by step").fetchall()
    assert [value for (value,) in rows] == losses
    (written,) = site.tiers.wandb_offline.rglob("run-*.wandb")
    assert b"train/loss" in written.read_bytes()
    (file,) = (folder / "trackio").glob("*.db")
    with sqlite3.connect(file) as database:
        lines = [json.loads(row) for (row,) in database.execute("select metrics from metrics order by step")]
    assert [line["train/loss"] for line in lines if "train/loss" in line] == losses


def test_what_a_person_set_for_a_tracker_stays(site: Site) -> None:
    job = site.job("report_to=[wandb, mlflow]")
    mine = {"WANDB_PROJECT": "mine", "WANDB_API_KEY": "k", "MLFLOW_TRACKING_URI": "http://127.0.0.1:5000"}
    added = tracker_environment(job, mine)
    assert not mine.keys() & added.keys()
    assert "WANDB_MODE" not in added
    assert tracker_environment(job, {})["WANDB_MODE"] == "offline"
    assert tracker_environment(site.job(), {}) == {}


def test_a_missing_tracker_is_one_line_with_what_to_install() -> None:
    with pytest.raises(ConfigError, match="nothing_of_that_name not installed; pip install nothing_of_that_name"):
        check_trackers(["nothing_of_that_name"])
