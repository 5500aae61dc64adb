"""The site: where the tiers are, which prices hold, how much of this machine jobs may use."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nexa_contracts.base import Contract, Duration, Part, Size
from nexa_contracts.health import HealthSite


class TierPaths(Part):
    """Folders of the storage tiers; relative ones start at the project's root."""

    scratch: str = "storage/scratch"
    """Fast and lost with the machine: caches, checkpoints of running jobs."""
    durable: str = "storage/durable"
    """The source of truth: datasets, finished models, manifests."""
    shared: str = "storage/shared"
    """Small files that jobs coordinate through; never training data."""


class SitePrice(Part):
    """A price of one's own, which goes before the table."""

    hourly: float = Field(ge=0)
    """Price of one hour, in USD."""
    source: str = "site file"
    """Where the price was read."""
    as_of: str | None = Field(default=None, pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")
    """Date it was read, YYYY-MM-DD."""


class LocalLimits(Part):
    """How much of this machine the local backend may hand out; None: all of it."""

    cpus: int | None = Field(default=None, ge=1)
    """Cores."""
    memory: Size | None = None
    """Main memory."""
    gpus: int | None = Field(default=None, ge=0)
    """GPUs."""


class SlurmSite(Part):
    """What the jobs of a cluster ask for beside their resources, and the limits it sets."""

    partition: str | None = None
    """Partition; None: the cluster's default."""
    account: str | None = None
    """Account that is charged."""
    qos: str | None = None
    """Quality of service."""
    constraint: str | None = None
    """Features that nodes must have."""
    exclude: tuple[str, ...] = ()
    """Nodes never to be used."""
    gpu_types: dict[str, str] = {}
    """What the cluster calls a GPU type in its gres: `H100-SXM: h100`."""
    signal: Literal["USR1", "USR2", "TERM"] = "USR1"
    """Sent before the time limit, to the job entry alone, which asks the program to save and leave with SIGTERM. Of
    USR1 and USR2 the other one is the program's own: it is passed on."""
    signal_lead: Duration = "2m"
    """How long before the time limit, at most a quarter of it; Slurm itself is up to 30 s early or late."""
    requeue: bool = True
    """Let the cluster start a job again that it preempted or whose node failed."""
    max_array_size: int | None = Field(default=None, ge=2)
    """MaxArraySize; None: the cluster is asked."""
    max_submitted: int | None = Field(default=None, ge=1)
    """Most array tasks of one user in the queue; None: no limit is known."""
    rows_per_task: int = Field(default=1, ge=1, le=10_000)
    """Runs of a sweep that one array task takes, one after another."""
    extra: tuple[str, ...] = ()
    """More options of sbatch, each `--name=value`; those that nexa sets itself are refused."""
    python: str | None = None
    """Python on the nodes; None: the one that launches, which they must see under the same path."""
    answer_timeout: Duration = "20s"
    """How long a command of Slurm may take before its answer counts as lost."""


class SiteConfig(Contract):
    """`nexa.yaml` at the project's root. Every key has a default that makes a usable laptop."""

    project: str | None = Field(default=None, max_length=63)
    """Name of the project in its records; None: the name of the root folder."""
    tiers: TierPaths = TierPaths()
    """Folders of the storage tiers."""
    backend: str = "local"
    """Where jobs run when a command does not say."""
    prices: dict[str, SitePrice] = {}
    """Hourly price by GPU type, or `cpu` for one core."""
    local: LocalLimits = LocalLimits()
    """What of this machine jobs may use."""
    slurm: SlurmSite = SlurmSite()
    """How jobs are handed to a Slurm cluster."""
    health: HealthSite = HealthSite()
    """What nodes are checked for before they join."""
