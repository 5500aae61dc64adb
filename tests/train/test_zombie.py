"""A training that was thought dead, slept through its successor, and wakes up."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nexa_contracts import env
from nexa_contracts.clock import SystemClock
from nexa_contracts.exit_codes import WorkExit
from nexa_infra.scheduling.fence import start_attempt
from nexa_infra.storage.checkpoints import find_resumable
from nexa_train.job import Job
from tests.scheduling.local_machine import wait_until
from tests.train.training_site import Site

LONG = ("training.max_steps=60", "checkpoints.every_steps=5", "checkpoints.keep_last=50")


def fenced(job: Job, attempt: int) -> Job:
    """Return the job as the job entry starts it where another attempt may be alive."""
    fence = start_attempt(job.run_dir, attempt, restarts=attempt - 1, clock=SystemClock())
    assert fence is not None
    environment = {**job.environment, **fence.tell(), env.ATTEMPT: str(attempt)}
    return replace(job, attempt=attempt, fence=fence, environment=environment)


def start(site: Site, job: Job) -> subprocess.Popen[str]:
    assert job.fence is not None
    os.environ.update(job.fence.tell())  # what the site gives its programs
    try:
        return site.start(job)
    finally:
        for name in job.fence.tell():
            del os.environ[name]


def digests(*folders: Path) -> dict[Path, str]:
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def is_sealed(job: Job) -> bool:
    """Whether the attempt has made a checkpoint that can be resumed from."""
    return (job.checkpoints / "checkpoint-5" / "nexa_seal.json").exists()


def is_saving(job: Job) -> bool:
    """Whether it writes, or has just written, another one."""
    return is_sealed(job) and any(job.saving.glob("checkpoint-*"))


@pytest.mark.parametrize("is_there", [is_saving, is_sealed])
def test_a_zombie_changes_nothing_that_is_its_successors(site: Site, is_there: Callable[[Job], bool]) -> None:
    job = site.job(*LONG)
    first = fenced(job, 1)
    zombie = start(site, first)
    wait_until(lambda: is_there(first), what="a checkpoint of the first attempt")
    zombie.send_signal(signal.SIGSTOP)
    second = fenced(job, 2)
    _, said = (successor := start(site, second)).communicate(timeout=300)
    assert successor.returncode == 0, said
    assert "going on from" in said
    before = digests(job.checkpoints, job.tiers.checkpoint(job.run_id))
    curve = job.run_dir.metrics.read_bytes()
    zombie.send_signal(signal.SIGCONT)
    _, said = zombie.communicate(timeout=300)
    assert zombie.returncode not in (0, WorkExit.SAVED_AND_LEFT)
    assert "attempt 2 has the run now; attempt 1 writes nothing any more" in said
    after = digests(job.checkpoints, job.tiers.checkpoint(job.run_id))
    assert {path: digest for path, digest in after.items() if first.saving not in path.parents} == before
    assert job.run_dir.metrics.read_bytes() == curve
    choice = find_resumable(job.run_id, job.tiers)
    assert (choice.step, choice.skipped) == (60, ())


def test_what_a_dead_attempt_was_saving_is_removed_by_the_next(site: Site) -> None:
    job = site.job("training.max_steps=6", "checkpoints.every_steps=2")
    left = job.tiers.saving_temp(job.run_id, 1) / "checkpoint-2"
    left.mkdir(parents=True)
    (left / "half").write_text("half")
    start_attempt(job.run_dir, 1, restarts=0, clock=SystemClock())
    ran = site.train(fenced(job, 2), attempt=2)
    assert ran.status == 0
    assert not left.exists()
    assert ran.checkpoints[-1] == "checkpoint-6"
