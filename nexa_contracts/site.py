"""The site: where the tiers are, which prices hold, how much of this machine jobs may use."""

from __future__ import annotations

from pydantic import Field

from nexa_contracts.base import Contract, Part, Size


class TierPaths(Part):
    """Folders of the storage tiers; relative ones start at the project's root."""

    scratch: str = "storage/scratch"
    durable: str = "storage/durable"
    shared: str = "storage/shared"


class SitePrice(Part):
    """A price of one's own, which goes before the table."""

    hourly: float = Field(ge=0)
    source: str = "site file"
    as_of: str | None = Field(default=None, pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")


class LocalLimits(Part):
    """How much of this machine the local backend may hand out; None: all of it."""

    cpus: int | None = Field(default=None, ge=1)
    memory: Size | None = None
    gpus: int | None = Field(default=None, ge=0)


class SiteConfig(Contract):
    """`nexa.yaml` at the project's root. Every key has a default that makes a usable laptop."""

    project: str | None = Field(default=None, max_length=63)
    """None: the name of the root folder."""
    tiers: TierPaths = TierPaths()
    backend: str = "local"
    prices: dict[str, SitePrice] = {}
    """Hourly price by GPU type, or `cpu` for one core."""
    local: LocalLimits = LocalLimits()
