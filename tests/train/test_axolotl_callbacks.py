"""Our callbacks within Axolotl: its own schema and plug-in class, and a Trainer put together as there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from nexa_contracts.clock import SystemClock
from nexa_contracts.exit_codes import WorkExit
from nexa_contracts.run import WorkResult
from nexa_infra.monitoring.run_events import BEGIN, END, SAVE, START, Bucket, parse_events
from nexa_infra.scheduling.fence import start_attempt
from nexa_infra.storage.checkpoints import find_resumable
from nexa_infra.storage.metrics import read_metrics
from nexa_infra.storage.seal import verify_seal
from nexa_train.job import Job
from tests.scheduling.local_machine import wait_until
from tests.train.test_axolotl import write_program
from tests.train.training_site import Site

AXOLOTL = """\
import importlib, json, sys
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments
config = json.load(open(sys.argv[2]))
module, _, name = config["plugins"][0].rpartition(".")
plugin = getattr(importlib.import_module(module), name)()
model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(config["base_model"]))
arguments = TrainingArguments(
    output_dir=config["output_dir"], max_steps=config["max_steps"], save_steps=config["save_steps"],
    logging_steps=config["logging_steps"], report_to=[], disable_tqdm=True, use_cpu=True,
)
tokens = list(range(5, 25))
data = [{"input_ids": tokens, "labels": tokens}] * 64
before = plugin.add_callbacks_pre_trainer(config, model)
trainer = Trainer(model=model, args=arguments, train_dataset=data, callbacks=before)
for each in plugin.add_callbacks_post_trainer(config, trainer):
    trainer.add_callback(each)
trainer.train(resume_from_checkpoint=config.get("resume_from_checkpoint"))
trainer.save_model(config["output_dir"])
plugin.post_train_unload(config)
"""
LONG = (
    "training.backend=axolotl",
    "training.max_steps=100000",
    "training.log_every=5",
    "checkpoints.every_steps=50000",
)


def start(site: Site, job: Job, folder: Path) -> subprocess.Popen[str]:
    # Its interpreter is this one, in which the real Axolotl judges the config and gives the plug-in its class.
    (folder / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (folder / "python").chmod(0o755)
    write_program(folder / "axolotl", AXOLOTL)
    told = {} if job.fence is None else job.fence.tell()
    variables = [f"{name}={text}" for name, text in {"NEXA_AXOLOTL": str(folder / "axolotl"), **told}.items()]
    return site.start(job, "env", *variables, sys.executable, "-m", "nexa_train.run")


def await_step(job: Job, step: int) -> None:
    wait_until(lambda: any(line["step"] >= step for line in read_metrics(job.run_dir.metrics)), what=f"step {step}")


def result_of(job: Job) -> WorkResult:
    path = job.run_dir.result(job.attempt)
    return WorkResult.from_json(path.read_bytes(), source=str(path))


def test_it_tells_how_it_goes_and_saves_when_it_has_to_leave(site: Site, tmp_path: Path) -> None:
    job = site.job(*LONG)
    child = start(site, job, tmp_path)
    await_step(job, 20)
    assert json.loads(job.run_dir.heartbeat.read_text())["max_steps"] == 100_000
    child.send_signal(signal.SIGTERM)
    _, said = child.communicate(timeout=120)
    assert child.returncode == WorkExit.SAVED_AND_LEFT, said
    left_at = result_of(job).steps
    assert left_at is not None
    choice = find_resumable(job.run_id, site.tiers)
    assert (choice.step, choice.skipped) == (left_at, ())
    config = job.config.model_copy(
        update={"training": job.train.training.model_copy(update={"max_steps": left_at + 20})}
    )
    job.run_dir.config.write_text(config.to_json())
    again = replace(job, attempt=2)
    _, said = (child := start(site, again, tmp_path)).communicate(timeout=120)
    assert child.returncode == 0, said
    ended = result_of(again)
    assert (ended.resumed_from, ended.steps) == (f"{job.run_id} step {left_at}", left_at + 20)
    verify_seal(site.tiers.checkpoint(job.run_id))
    lines = list(read_metrics(job.run_dir.metrics))
    assert max(Counter(line["step"] for line in lines if "loss" in line).values()) == 1  # nothing is told twice
    assert {line["attempt"] for line in lines} == {1, 2}
    assert lines[-1]["step"] > left_at
    events = list(parse_events(json.loads(line) for line in job.run_dir.events.read_text().splitlines()))
    for attempt in (1, 2):
        ours = [event for event in events if event.attempt == attempt]
        assert [ours[0].name, ours[1].name, ours[-1].name] == [START, BEGIN, END]
        assert any(event.name == SAVE for event in ours)
        assert sum(event.seconds.get(Bucket.COMPUTE, 0.0) for event in ours) > 0


def test_one_that_was_thought_dead_ends_while_it_trains(site: Site, tmp_path: Path) -> None:
    job = site.job(*LONG)
    fence = start_attempt(job.run_dir, 1, restarts=0, clock=SystemClock())
    child = start(site, replace(job, fence=fence), tmp_path)
    await_step(job, 10)
    start_attempt(job.run_dir, 2, restarts=1, clock=SystemClock())
    _, said = child.communicate(timeout=120)
    assert child.returncode not in (0, WorkExit.SAVED_AND_LEFT)
    assert "attempt 2 has the run now; attempt 1 writes nothing any more" in said
    assert not list(job.checkpoints.glob("checkpoint-*"))


def test_an_axolotl_that_cannot_load_them_trains_without(site: Site, tmp_path: Path) -> None:
    from tests.train.test_axolotl import STAND_IN

    write_program(tmp_path / "python", "print('a banner')\nprint('nexa: ModuleNotFoundError: no pydantic')")
    write_program(tmp_path / "axolotl", STAND_IN.format(python=sys.executable))
    job = site.job("training.backend=axolotl", "model.scratch=null", f"model.path={tmp_path / 'model'}")
    ran = site.train(job, environment={"NEXA_AXOLOTL": str(tmp_path / "axolotl")})
    assert ran.status == WorkExit.DONE
    assert "plugins" not in json.loads((job.run_dir.path / "axolotl.yaml").read_text())
    assert ran.curve == [(15, 3.0), (30, 2.0)]
