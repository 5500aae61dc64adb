"""What a backend would do, as data, and what a job entry needs to know."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Literal

from pydantic import Field, JsonValue, ValidationError

from nexa_contracts.base import Contract, Part, Scalar
from nexa_contracts.errors import ConfigError
from nexa_contracts.health import HealthPlan
from nexa_contracts.resources import Resources


class SpecEntry(Part):
    """One run of a submission, as the job entry reads it. Absolute paths; no credential."""

    run_id: str
    sweep_id: str | None = None
    point: dict[str, Scalar] = {}
    run_dir: str
    """`runs/<run_id>`: attempts, metrics, heartbeat, logs."""
    manifests_dir: str
    study: str | None = None
    """Journal of the Optuna study of which the run is a trial; None: of none."""
    cwd: str
    """The unpacked code snapshot."""
    command: tuple[str, ...]
    environment: dict[str, str] = {}
    """Added to the job's environment."""
    secrets: tuple[str, ...] = ()
    scratch: str
    durable: str
    shared: str
    walltime_s: float = Field(gt=0)
    max_retries: int = Field(ge=0)
    max_preemptions: int = Field(default=100, ge=0)
    max_time_outs: int = Field(default=0, ge=0)
    stall_s: float | None = Field(default=None, gt=0)
    """Longest time without a step; None: not watched."""
    grace_s: float = Field(default=30.0, ge=0)
    """Between asking the work to leave and ending it."""
    resources: Resources
    health: HealthPlan | None = None
    """What is done about its nodes; None: nothing."""


class JobSpec(Contract):
    """`spec.json`: entries by the decimal array index (SLURM_ARRAY_TASK_ID on Slurm).

    What the runs of a sweep have in common stands in it once: each job reads the whole file to find its own entry.
    """

    schema_version: int = Field(default=2, ge=1)
    """1 had whole entries and nothing in common, which this version reads too."""
    submission: str
    """The run id or sweep id this submission is of."""
    common: dict[str, JsonValue] = {}
    """Fields of a SpecEntry that hold for every run whose own entry does not have them."""
    entries: dict[str, dict[str, JsonValue]]
    """By index, the fields of a run's SpecEntry that are not the common ones."""

    def indices(self) -> tuple[int, ...]:
        """Return the array indices that have an entry, in rising order.

        Raises:
            ConfigError: an entry stands under something else than an array index.
        """
        for key in self.entries:
            if not (key.isascii() and key.isdecimal() and (key == "0" or key[0] != "0")):
                raise ConfigError(f"spec of {self.submission}: entries: found {key!r}; allowed: decimal array indices")
        return tuple(sorted(map(int, self.entries)))

    def entry(self, index: int) -> SpecEntry:
        """Return the whole entry under an array index.

        Raises:
            ConfigError: nothing stands there, or what does is no entry.
        """
        own = self.entries.get(str(index))
        if own is None:
            raise ConfigError(f"spec of {self.submission}: entries.{index}: not there; {len(self.entries)} others are")
        try:
            return SpecEntry.model_validate_json(json.dumps({**self.common, **own}))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise ConfigError(f"spec of {self.submission}: entries.{index}.{where}: {first['msg']}") from error


class PlannedFile(Part):
    """A file a plan would write."""

    path: str
    text: str
    mode: int = 0o644


class LaunchPlan(Contract):
    """Everything a backend would do, as data. Rendering one touches nothing."""

    backend: str
    launcher: str
    submission: str
    job_count: int = Field(ge=1)
    resources: Resources
    files: tuple[PlannedFile, ...]
    commands: tuple[tuple[str, ...], ...]
    """Programs the backend would run to submit; empty where it needs none."""
    max_parallel: int | None = None
    """At most so many runs of the sweep at a time, whichever submission they came with."""
    left_out: int = Field(default=0, ge=0)
    """Runs that the files leave out, of `job_count`: a dry run of a large sweep renders the first ones only."""


class JobHandle(Part):
    """What a backend calls a job it holds. `name` holds the run or sweep id, because a job id alone can be given out
    twice.
    """

    backend: Literal["local", "slurm", "ssh", "fake"]
    job_id: str
    name: str


class SubmissionRecord(Contract):
    """`submission.json`: the backend took the plan."""

    submission: str
    submitted_at: datetime
    handles: tuple[JobHandle, ...]
