"""Where the time of a training went: its own events, and a training that was killed and went on by itself."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nexa_contracts.clock import SystemClock
from nexa_infra.monitoring.run_events import BEGIN, END, SAVE, START, Bucket, Event, parse_events
from nexa_infra.operations.goodput import read_goodput
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import read_attempts, read_outcome, read_run_manifest
from nexa_infra.storage.metrics import read_last_records, read_metrics
from nexa_infra.testing.clock import FakeClock
from nexa_train.timeline import Timeline
from tests.cli.cli_process import Cli, end_supervisor
from tests.train.training_site import TINY, Ran, Site

DEADLINE_S = 240.0


@pytest.fixture
def cli(tmp_path: Path, state_dir: Path) -> Iterator[Cli]:
    (tmp_path / "nexa.yaml").write_text("project: tests\n", encoding="utf-8")
    yield Cli(Project(tmp_path))
    end_supervisor()


def read(ran: Ran) -> list[Event]:
    return list(parse_events(read_metrics(ran.job.run_dir.events)))


def test_a_training_tells_its_start_its_saves_and_its_end_and_every_second_between(site: Site, stack: None) -> None:
    clock = SystemClock()
    began_s = clock.monotonic_s()
    ran = site.train(site.job("training.eval_every=15"))
    whole_s = clock.monotonic_s() - began_s
    events = read(ran)
    assert [event.name for event in events if event.name != "steps"] == [START, BEGIN, SAVE, SAVE, SAVE, END]
    assert [event.step for event in events if event.name == SAVE] == [10, 20, 30]
    spent = {bucket: sum(event.seconds.get(bucket, 0.0) for event in events) for bucket in Bucket}
    assert all(spent[bucket] > 0 for bucket in (Bucket.STARTUP, Bucket.DATA, Bucket.COMPUTE, Bucket.SAVE, Bucket.OTHER))
    assert spent[Bucket.RESTORE] == spent[Bucket.REDONE] == spent[Bucket.WAITING] == 0
    assert sum(spent.values()) <= whole_s
    span_s = (events[-1].time - events[0].time).total_seconds()
    assert sum(sum(event.seconds.values()) for event in events[1:]) == pytest.approx(span_s, rel=0.01)


def test_events_that_cannot_be_written_do_not_end_a_training(site: Site, stack: None) -> None:
    job = site.job()
    job.run_dir.events.mkdir()
    assert site.train(job).status == 0


def test_a_long_attempt_says_little(site: Site) -> None:
    clock = FakeClock()
    job = site.job()
    with Timeline(job, clock=clock) as timeline:
        for step in range(1, 3601):
            clock.advance(1.0)
            timeline.note_step(step)
    events = list(parse_events(read_metrics(job.run_dir.events)))
    assert len(events) < 140
    assert sum(event.seconds.get(Bucket.COMPUTE, 0.0) for event in events) == pytest.approx(3600)


def test_the_buckets_of_a_training_that_was_killed_add_up_to_its_wall_time(cli: Cli) -> None:
    changes = ["training.max_steps=800", "checkpoints.every_steps=200", "training.eval_every=100000"]
    run_id = cli.json("launch", str(TINY), *(word for text in changes for word in ("--set", text)))["submission"]
    kill_at(cli.project, run_id, 300)
    wait_for_outcome(cli.project, run_id)
    goodput = read_goodput(cli.project, run_id)
    assert goodput is not None
    outcome = read_outcome(cli.project, run_id)
    assert (outcome.state, outcome.attempts) == ("SUCCEEDED", 2)
    wall_s = (outcome.ended_at - read_run_manifest(cli.project, run_id).created_at).total_seconds()
    assert goodput.wall_s == pytest.approx(wall_s, rel=0.01)
    assert goodput.seconds.keys() == set(Bucket)
    assert all(seconds > 0 for seconds in goodput.seconds.values())
    assert goodput.restarts == 1
    assert goodput.steps_made >= 800
    first = read_attempts(cli.project, run_id)[0]
    assert first.signal == signal.SIGKILL
    shown = cli.json("show", run_id)["goodput"]
    assert shown["goodput"] == pytest.approx(goodput.share)
    assert sum(shown["seconds"].values()) == pytest.approx(wall_s, rel=0.01)


def kill_at(project: Project, run_id: str, step: int) -> None:
    def beat() -> dict[str, Any] | None:
        path = project.heartbeat(run_id)
        found = json.loads(path.read_text()) if path.exists() else {}
        last = read_last_records(project.metrics(run_id))
        return found if found and last and last[-1]["step"] >= step else None

    found = wait_for(beat)
    os.kill(found["pid"], signal.SIGKILL)


def wait_for_outcome(project: Project, run_id: str) -> None:
    wait_for(lambda: project.outcome(run_id).exists() or None)


def wait_for(look: Any) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while (found := look()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found
