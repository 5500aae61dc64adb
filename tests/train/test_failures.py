"""What goes wrong in training is told in one line, and costs as little as it can."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from nexa_contracts.clock import SystemClock
from nexa_contracts.exit_codes import WorkExit
from nexa_infra.storage.layout import SEAL_NAME, checkpoint_name
from nexa_infra.storage.seal import seal_folder, verify_seal
from tests.train.training_site import LeaveAfter, Site, register, write_jsonl

DEADLINE_S = 240.0


def test_a_missing_dataset_is_one_line_and_a_bad_request(site: Site) -> None:
    job = site.job("data.dataset=wrods")
    child = site.start(job)
    _, said = child.communicate(timeout=DEADLINE_S)
    assert child.returncode == WorkExit.BAD_REQUEST
    assert said.startswith("error: dataset wrods: not registered; did you mean words?")
    assert said.count("\n") == 1


def test_a_program_without_its_job_says_which_variable_is_missing(site: Site) -> None:
    job = site.job()
    job.run_dir.config.unlink()
    child = site.start(job)
    _, said = child.communicate(timeout=DEADLINE_S)
    assert child.returncode == WorkExit.BAD_REQUEST
    assert "config.json: no such file" in said
    assert said.count("\n") == 1


def test_a_changed_dataset_names_the_file(site: Site, tmp_path: Path) -> None:
    rows = [{"text": "a value " * 50} for _ in range(20)]
    register(site.tiers, "changing", write_jsonl(tmp_path / "changing.jsonl", rows))
    assert site.train(site.job("data.dataset=changing", "data.format=chat")).status == WorkExit.BAD_REQUEST
    (path,) = site.tiers.datasets.glob("changing*")
    path.chmod(0o644)
    path.write_text(path.read_text().replace("value", "VALUE", 1))
    ran = site.train(site.job("data.dataset=changing"))
    assert ran.status == WorkExit.BAD_REQUEST
    assert ran.result.failure is not None
    assert str(path) in ran.result.failure.message
    assert "sha256" in ran.result.failure.message


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.text_field=txt"], "no column txt; found: text"),
        (["data.format=chat"], "no column messages; found: text"),
        (["data.block_size=100000"], "fewer than one block of 100000"),
        (["report_to=[trackio, mlflow, wandb, tensorboard]", "data.dataset=none"], "dataset none: not registered"),
        (["model.scratch=null", "model.path=no/such/folder"], "model.path no/such/folder"),
    ],
)
def test_a_wrong_request_is_never_retried_and_says_what_is_allowed(
    site: Site, stack: None, overrides: list[str], said: str
) -> None:
    ran = site.train(site.job(*overrides))
    assert ran.status == WorkExit.BAD_REQUEST
    assert ran.result.failure is not None
    assert ran.result.failure.kind == "bad_request"
    assert said in ran.result.failure.message


@pytest.mark.parametrize(
    ("wild", "said"),
    [
        (["training.learning_rate=100", "training.weight_decay=1e6", "training.divergence_factor=null"], " is nan"),
        (["training.learning_rate=100", "training.optimizer=sgd", "training.max_grad_norm=1e9"], "more than 4 times"),
    ],
)
def test_a_training_that_diverges_stops_before_its_checkpoint(
    site: Site, stack: None, wild: list[str], said: str
) -> None:
    every_step = ("training.lr_scheduler=constant", "checkpoints.every_steps=1", "checkpoints.keep_last=50")
    ran = site.train(site.job(*wild, *every_step))
    assert ran.status == WorkExit.DIVERGED
    failure = ran.result.failure
    assert failure is not None
    assert failure.kind == "diverged"
    assert said in failure.message
    assert ran.checkpoints == sorted(f"checkpoint-{line['step']}" for line in ran.metrics[:-1])
    assert ran.result.artifacts == ()


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(site: Site, stack: None) -> None:
    job = site.job("checkpoints.every_steps=5")
    site.train(job, leave=LeaveAfter(12))
    newest = job.checkpoints / "checkpoint-12"
    weights = newest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    resumed = site.train(job, attempt=2)
    assert resumed.status == WorkExit.DONE
    assert resumed.result.resumed_from == f"{job.run_id} step 10"
    (skipped,) = resumed.result.skipped_checkpoints
    assert "checkpoint-12 is damaged" in skipped
    assert "model.safetensors" in skipped


def test_a_checkpoint_with_code_in_it_is_not_executed(site: Site, stack: None, tmp_path: Path) -> None:
    job = site.job("training.max_steps=10")
    site.train(job, leave=LeaveAfter(5))
    folder = job.checkpoints / "checkpoint-5"
    proof = tmp_path / "executed"
    (folder / SEAL_NAME).unlink()
    (folder / "scheduler.pt").write_bytes(pickle.dumps(Trap(str(proof)), protocol=2))
    seal_folder(folder, kind="checkpoint", run_id=job.run_id, step=5, now=SystemClock().now())
    with pytest.raises(pickle.UnpicklingError, match="weights_only"):
        site.train(job, attempt=2)
    assert not proof.exists()


def test_a_checkpoint_of_another_shape_is_refused(site: Site, stack: None) -> None:
    job = site.job("training.max_steps=5")
    site.train(job)
    ran = site.train(site.job("model.scratch.hidden_size=64", resume_from=job.run_id))
    assert ran.status == WorkExit.BAD_REQUEST
    assert ran.result.failure is not None
    assert "hidden_size 32; the config asks for 64" in ran.result.failure.message


def test_kept_checkpoints_are_on_durable_though_the_promoter_was_killed(site: Site, stack: None) -> None:
    job = site.job("training.max_steps=40", "checkpoints.every_steps=10", "checkpoints.promote_every_steps=20")
    clock = PromoterKillingClock()
    ran = site.train(job, clock=clock)
    assert clock.killed
    assert ran.status == WorkExit.DONE
    names = [artifact.name for artifact in ran.result.artifacts]
    assert names == [checkpoint_name(job.run_id, 20), checkpoint_name(job.run_id, 40), job.run_id]
    for name in names:
        verify_seal(site.tiers.checkpoint(name))
    assert ran.checkpoints == ["checkpoint-30", "checkpoint-40"]


def test_a_signal_saves_a_checkpoint_and_the_next_attempt_ends_as_if_nothing_had_been(site: Site, stack: None) -> None:
    overrides = ("training.max_steps=4000", "model.scratch.dropout=0.1", "checkpoints.every_steps=null")
    job = site.job(*overrides)
    child = site.start(job)
    wait_for_step(child, job.run_dir.metrics, 50)
    child.send_signal(signal.SIGTERM)
    _, said = child.communicate(timeout=DEADLINE_S)
    assert child.returncode == WorkExit.SAVED_AND_LEFT, said
    (folder,) = job.checkpoints.glob("checkpoint-*")
    step = verify_seal(folder).step
    assert step is not None
    # The rest would take long: another run of the same schedule takes over for the steps up to a signal of its own.
    whole = site.train(site.job(*overrides), leave=LeaveAfter(step + 20))
    resumed = site.train(job, attempt=2, leave=LeaveAfter(20))
    assert resumed.result.resumed_from == f"{job.run_id} step {step}"
    weights = [ran.job.checkpoints / f"checkpoint-{step + 20}" / "model.safetensors" for ran in (whole, resumed)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_two_processes_leave_together_when_one_is_asked(site: Site) -> None:
    job = site.job("training.max_steps=100000", "checkpoints.every_steps=null")
    child = site.start(
        job, sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "nexa_train.run"
    )
    wait_for_step(child, job.run_dir.metrics, 5)
    ranks = [process for process in psutil.Process(child.pid).children() if "nexa_train.run" in process.cmdline()]
    second = next(process for process in ranks if process.environ()["RANK"] == "1")
    second.send_signal(signal.SIGUSR1)
    child.communicate(timeout=DEADLINE_S)
    (folder,) = job.checkpoints.glob("checkpoint-*")
    names = {file.path for file in verify_seal(folder).files}
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= names
    result = json.loads(job.run_dir.result(1).read_text())
    assert result["exit_code"] == WorkExit.SAVED_AND_LEFT
    assert result["tokens"] == result["steps"] * 2 * 8 * 64


class Trap:
    """Unpickled, it would create a file."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mknod, (self._path,))


class PromoterKillingClock(SystemClock):
    """Kills the promoter the first time it is asked for the time while one runs."""

    def __init__(self) -> None:
        self.killed = 0

    def monotonic_s(self) -> float:
        for child in psutil.Process().children() if not self.killed else []:
            if "nexa_infra.storage.promoter" in child.cmdline():
                child.kill()
                self.killed = child.pid
        return super().monotonic_s()


def wait_for_step(child: subprocess.Popen[str], metrics: Path, step: int) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline_s and child.poll() is None:
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        if lines and json.loads(lines[-1])["step"] >= step:
            return
        time.sleep(0.2)
    raise AssertionError(f"step {step} was not reached")
