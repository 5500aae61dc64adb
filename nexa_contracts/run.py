"""A run: what was asked (RunConfig), what was frozen at launch (RunManifest), each attempt, and how it ended."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from nexa_contracts import env
from nexa_contracts.artifact import ArtifactRef
from nexa_contracts.base import Contract, Duration, Name, Part, Scalar
from nexa_contracts.cost import CostEstimate
from nexa_contracts.dataset import DatasetRef
from nexa_contracts.resources import Resources
from nexa_contracts.states import JobState
from nexa_contracts.training import (
    CheckpointConfig,
    DataConfig,
    LoraConfig,
    ModelConfig,
    Reporter,
    TrainConfig,
    TrainingConfig,
)

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_LONGEST_WORD = 128 * 1024 - 1
"""Bytes of one argument of a program, or of one variable with its name, that Linux takes; one more ends it."""


class RunConfig(Contract):
    """What a person asks for. Either model, data and training, or a command of their own."""

    name: Name = "run"
    """What the run is called in lists; its id is made at launch."""
    description: str = Field(default="", max_length=2000)
    """A sentence for whoever reads the record later."""
    resources: Resources = Resources()
    """What the run needs of a machine."""
    model: ModelConfig | None = None
    """Which model is trained."""
    data: DataConfig | None = None
    """What it is trained on."""
    training: TrainingConfig | None = None
    """How it is trained."""
    lora: LoraConfig | None = None
    """Low-rank adapters; None trains every weight."""
    checkpoints: CheckpointConfig = CheckpointConfig()
    """When checkpoints are saved and kept."""
    report_to: tuple[Reporter, ...] = ()
    """Experiment trackers that get the metrics too."""
    command: tuple[str, ...] | None = Field(default=None, min_length=1)
    """A program of one's own, as an argument list; it finds its resolved config in the file $NEXA_RUN_CONFIG."""
    launcher: Literal["python", "torchrun"] | None = None
    """How its processes start; None: torchrun for training in several processes and for a command on several nodes,
    else as it is."""
    params: dict[str, Scalar] = {}
    """Values for `command`, which a sweep can vary as `params.<name>`."""
    env: dict[str, str] = {}
    """Environment variables of the job. Credentials do not belong here: name them under `secrets`."""
    secrets: tuple[str, ...] = ()
    """Names of environment variables whose values the job needs; their values are never recorded."""
    max_retries: int = Field(default=1, ge=0, le=1000)
    """How often a crash is followed by another attempt, from the newest verified checkpoint."""
    max_preemptions: int = Field(default=100, ge=0, le=10_000)
    """How often it is started again after it left because something else wanted its place."""
    max_time_outs: int = Field(default=0, ge=0, le=1000)
    """How often it is started again, from its newest checkpoint, when it reached its walltime."""
    max_rank_restarts: int = Field(default=0, ge=0, le=1000)
    """How often torchrun starts the training processes again within an attempt when one of them dies; not after an
    exception that came at the same step before."""
    stall_timeout: Duration | None = None
    """Ended and started again, as after a crash, when no step was made for so long; None: never."""
    check_nodes: bool | None = None
    """Check the nodes before torchrun starts the processes; None: as `health.before_start` of the site file says."""
    tags: dict[str, str] = {}
    """Labels to find and sum runs by."""

    @field_validator("env", "secrets")
    @classmethod
    def _variable_names(cls, value: dict[str, str] | tuple[str, ...]) -> dict[str, str] | tuple[str, ...]:
        for name in value:
            if _VARIABLE.fullmatch(name) is None:
                raise ValueError(f"{name!r} is not a variable name; allowed: letters, digits and _")
        if isinstance(value, dict):
            for name, text in value.items():
                if name.startswith("NEXA_"):
                    raise ValueError(f"{name} is set by nexa itself; use another name")
                if "\0" in text:
                    raise ValueError(f"the value of {name} holds a NUL byte, which no environment can")
                _check_length(f"the value of {name}", f"{name}={text}")
                if env.looks_like_credential(name, text):
                    raise ValueError(
                        f"{name} looks like a credential; write its name under `secrets` and set it outside"
                    )
        return value

    @field_validator("command")
    @classmethod
    def _no_null_bytes(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for word in value or ():
            if "\0" in word:
                raise ValueError("a word holds a NUL byte")
            _check_length("a word", word)
            if env.holds_secret_text(word):
                raise ValueError("a word looks like a credential; pass it by name under `secrets`")
        return value

    @model_validator(mode="after")
    def _one_kind_of_work(self) -> Self:
        parts = {"model": self.model, "data": self.data, "training": self.training}
        given = [key for key, part in parts.items() if part is not None]
        if self.command is not None:
            if given:
                raise ValueError(f"command excludes {', '.join(given)}")
        elif len(given) < 3:
            missing = [key for key in parts if key not in given]
            raise ValueError(f"{', '.join(missing)} missing: give model, data and training, or a command")
        return self

    @property
    def train(self) -> TrainConfig | None:
        """The training part; None when the run is a command of one's own."""
        if self.model is None or self.data is None or self.training is None:
            return None
        return TrainConfig(
            model=self.model,
            data=self.data,
            training=self.training,
            lora=self.lora,
            checkpoints=self.checkpoints,
            report_to=self.report_to,
        )


def _check_length(what: str, text: str) -> None:
    length = len(text.encode(errors="surrogatepass"))
    if length > _LONGEST_WORD:
        raise ValueError(
            f"{what} is too long for a program: {length} bytes, allowed: {_LONGEST_WORD}; put it under `params`, or "
            "into a file"
        )


class CodeRecord(Part):
    """Which code a run was given. The snapshot is a tar.gz of the tracked and the new, not ignored files."""

    commit: str | None = None
    branch: str | None = None
    is_dirty: bool | None = None
    """None: not a git checkout."""
    diff_sha256: str | None = None
    snapshot: str
    """Digest over names, modes and contents of the snapshot's files; its name on disk."""
    snapshot_files: int
    snapshot_bytes: int
    left_out: tuple[str, ...] = ()
    """Files not in the snapshot: too large, links that lead out of the project, or named as secrets are."""
    taken_for: str | None = None
    """The run or sweep whose launch took the snapshot, and whose commit this is; None: the launch of this run did."""


class GpuRecord(Part):
    """One GPU of the machine a run was launched on."""

    name: str
    memory_gib: float | None = None
    uuid: str | None = None


class EnvironmentRecord(Part):
    """The machine and the packages."""

    hostname: str
    platform: str
    python: str
    python_executable: str
    cpu: str | None = None
    cpu_count: int | None = None
    memory_bytes: int | None = None
    driver: str | None = None
    gpus: tuple[GpuRecord, ...] = ()
    packages: dict[str, str] = {}
    """Version by name of every installed distribution."""
    variables: dict[str, str] = {}
    """Variables that shape a run; credentials are named but not shown."""


class ResumeRef(Part):
    """The run another one goes on from."""

    run_id: str
    config_changed: tuple[str, ...] = ()


class RunManifest(Contract):
    """`<run_id>.json`: frozen at launch, before anything is submitted."""

    run_id: str
    sweep_id: str | None = None
    index: int | None = None
    point: dict[str, Scalar] = {}
    name: str
    created_at: datetime
    created_by: str
    project: str
    config: RunConfig
    config_source: str
    overrides: dict[str, Scalar] = {}
    backend: str
    launcher: str
    command: tuple[str, ...]
    code: CodeRecord
    datasets: tuple[DatasetRef, ...] = ()
    environment: EnvironmentRecord
    estimate: CostEstimate
    resumes: ResumeRef | None = None


class FailureNote(Part):
    """Why an attempt ended badly: a class, one sentence, and the lines of the log that show it."""

    kind: str
    """bad_request, diverged, crash, stalled, killed, preempted, timed_out, out_of_memory, lost, storage, cancelled,
    not_submitted, node_unhealthy, repeated_crash."""
    message: str
    evidence: tuple[str, ...] = ()


class AttemptRecord(Contract):
    """`attempts/<n>.json`: one execution of a run on one machine; written when it ends."""

    run_id: str
    number: int = Field(ge=1)
    state: JobState
    started_at: datetime
    ended_at: datetime
    seconds: float = Field(ge=0)
    """Measured with a monotonic clock where the process lived to measure it."""
    exit_code: int | None = None
    signal: int | None = None
    hostname: str
    resumed_from: str | None = None
    """The checkpoint it started from, as `<run_id> step <n>`; the one that a program of one's own was given."""
    step: int | None = None
    """The last step it was known to have made; with the failure's message it tells a crash that comes again."""
    pruned_at_step: int | None = None
    """The step at which the sweep's pruner ended it; SUCCEEDED then, for nothing went wrong."""
    rank_restarts: int = Field(default=0, ge=0)
    """How often torchrun started the training processes again within it."""
    failure: FailureNote | None = None


class WorkResult(Contract):
    """`attempts/<n>.result.json`: what the program inside a job says of its own work, when it ends well enough to."""

    steps: int | None = Field(default=None, ge=0, lt=2**63)
    tokens: int | None = Field(default=None, ge=0, lt=2**63)
    metrics: dict[str, float] = {}
    artifacts: tuple[ArtifactRef, ...] = ()
    resumed_from: str | None = None
    skipped_checkpoints: tuple[str, ...] = ()
    """Checkpoints that were not used, each with the reason."""
    failure: FailureNote | None = None
    exit_code: int | None = None
    """The status the program ended with; a launcher between it and the job entry (torchrun) hides it."""


class RunOutcome(Contract):
    """`outcome_<run_id>.json`: how a run ended; written once, when no further attempt will be made."""

    run_id: str
    sweep_id: str | None = None
    index: int | None = None
    state: JobState
    ended_at: datetime
    attempts: int = Field(ge=0)
    seconds: float = Field(ge=0)
    """Measured seconds of all attempts together."""
    steps: int | None = None
    tokens: int | None = None
    metrics: dict[str, float] = {}
    artifacts: tuple[ArtifactRef, ...] = ()
    point: dict[str, Scalar] = {}
    """Of a trial: what its study gave it when it started. The manifest has the points that were known at launch."""
    pruned_at_step: int | None = None
    """The step at which the sweep's pruner ended it; SUCCEEDED then, and ranked behind the runs that were not."""
    failure: FailureNote | None = None
