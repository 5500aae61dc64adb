"""Money: what a run may cost before it starts, and what it did cost after."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from nexa_contracts.base import Contract, Part


class Rate(Part):
    """The price of one hour of one unit, and where it was read."""

    resource: str
    """A GPU type of the price table, or `cpu`."""
    unit: str
    """`gpu_hour` or `core_hour`."""
    hourly: float | None = Field(ge=0)
    """None: no price is known, which is not the same as free."""
    source: str | None = None
    as_of: str | None = None
    """Date of the source, YYYY-MM-DD."""


class CostEstimate(Part):
    """An upper bound: every attempt takes its whole walltime. Totals are None where the rate is unknown."""

    currency: str = "USD"
    runs: int = Field(ge=0)
    hours_per_run: float = Field(ge=0)
    units_per_run: int = Field(ge=0)
    """GPUs of all nodes, or cores of all nodes when there are no GPUs."""
    rate: Rate
    total: float | None


class CostBreakdown(Part):
    """Quantities, not amounts."""

    compute_hours: float = Field(ge=0)
    """Hours × units (GPU-hours, or core-hours), from measured seconds of all attempts."""
    storage_gb_month: float | None = None
    egress_gb: float | None = None


class CostManifest(Contract):
    """`cost_<run_id>.json`: what one run cost."""

    run_id: str
    sweep_id: str | None = None
    created_at: datetime
    currency: str = "USD"
    breakdown: CostBreakdown
    rate: Rate
    seconds: float = Field(ge=0)
    units: int = Field(ge=0)
    estimate: float | None = None
    total: float | None
    """None: the rate is unknown."""
