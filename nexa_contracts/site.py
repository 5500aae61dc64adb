"""The site: where the tiers are, which prices hold, how much of this machine jobs may use."""

from __future__ import annotations

from pydantic import Field

from nexa_contracts.base import Contract, Part, Size


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
