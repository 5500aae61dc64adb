"""A site, and trainings of small runs in it, in this process: importing the stack takes as long as a test."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nexa_contracts import env
from nexa_contracts.clock import Clock, SystemClock
from nexa_contracts.config import load_config, parse_override
from nexa_contracts.dataset import SourceProvenance
from nexa_contracts.run import RunConfig, WorkResult
from nexa_infra.storage.layout import Tiers
from nexa_infra.storage.registration import DatasetDescription, register_dataset
from nexa_infra.storage.run_dir import RunDir
from nexa_train.job import Job
from nexa_train.signals import LeaveRequest

REPOSITORY = Path(__file__).parents[2]
TINY = REPOSITORY / "nexa_train" / "configs" / "tiny.yaml"
WORDS = ("def", "return", "value", "in", "for", "the", "loss", "is", "small", "x", "=", "+", "(y)", "1", "\n")


@dataclass
class Ran:
    """A training that ended: its exit status, its job, and what it left."""

    status: int
    job: Job

    @property
    def result(self) -> WorkResult:
        path = self.job.run_dir.result(self.job.attempt)
        return WorkResult.from_json(path.read_bytes(), source=str(path))

    @property
    def metrics(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.job.run_dir.metrics.read_text().splitlines()]

    @property
    def curve(self) -> list[tuple[int, float]]:
        return [(line["step"], line["loss"]) for line in self.metrics if "loss" in line]

    @property
    def checkpoints(self) -> list[str]:
        return sorted(path.name for path in self.job.checkpoints.glob("checkpoint-*"))


@dataclass
class Site:
    """Tiers with the datasets `words`, `talks` and `choices`, and the trainings that use them."""

    tiers: Tiers
    root: Path
    numbers: Iterator[int]

    def job(self, *overrides: str, resume_from: str | None = None) -> Job:
        """Return a new run of the tiny config on the dataset `words`."""
        parsed = [parse_override(text) for text in ("data.dataset=words", "data.max_rows=null", *overrides)]
        config = load_config(TINY, RunConfig, overrides=parsed)
        run_id = f"run_20260102_030405_{next(self.numbers):04d}"
        run_dir = RunDir(self.root / "runs" / run_id)
        run_dir.attempts.mkdir(parents=True)
        run_dir.config.write_text(config.to_json())
        assert config.train is not None
        return Job(
            run_id=run_id,
            attempt=1,
            run_dir=run_dir,
            tiers=self.tiers,
            config=config,
            train=config.train,
            resume_from=resume_from,
            environment=dict(os.environ),
        )

    def train(
        self,
        job: Job,
        *,
        attempt: int = 1,
        leave: LeaveRequest | None = None,
        clock: Clock | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Ran:
        """Return the job trained in this process; `environment` is added to what its helpers inherit."""
        from nexa_train.run import train_job

        job = replace(job, attempt=attempt, environment={**job.environment, **(environment or {})})
        return Ran(train_job(job, leave or LeaveRequest(), clock=clock or SystemClock()), job)

    def environment(self, job: Job) -> dict[str, str]:
        """Return the environment the job entry gives to the training program."""
        return {
            **os.environ,
            env.RUN_ID: job.run_id,
            env.RUN_DIR: str(job.run_dir.path),
            env.RUN_CONFIG: str(job.run_dir.config),
            env.ATTEMPT: str(job.attempt),
            env.SCRATCH_DIR: str(self.tiers.scratch),
            env.DURABLE_DIR: str(self.tiers.durable),
            env.SHARED_DIR: str(self.tiers.shared),
            "OMP_NUM_THREADS": "1",
        }

    def start(self, job: Job, *command: str) -> subprocess.Popen[str]:
        """Return the training program, started as a job entry starts it."""
        return subprocess.Popen(
            command or (sys.executable, "-m", "nexa_train.run"),
            env=self.environment(job),
            cwd=REPOSITORY,
            stderr=subprocess.PIPE,
            text=True,
        )


class LeaveAfter(LeaveRequest):
    """Is asked to leave after so many steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    @property
    def is_asked(self) -> bool:
        self._left -= 1
        return self._left <= 0

    @is_asked.setter
    def is_asked(self, value: bool) -> None:
        pass


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def register(tiers: Tiers, name: str, *files: Path) -> None:
    provenance = SourceProvenance(origin="made by a test", collected_at=datetime.now(UTC), collected_by="conftest")
    register_dataset(tiers, files, DatasetDescription(name=name, provenance=provenance), clock=SystemClock())


def sentence(random_words: random.Random, count: int) -> str:
    return " ".join(random_words.choices(WORDS, k=count))
