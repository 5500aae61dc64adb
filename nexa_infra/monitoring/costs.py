"""What runs will cost at most, what they did cost, and the sums by sweep, month, GPU or tag.

An amount is hours × units × hourly rate. Where the rate is unknown the amount is unknown; sums say how many they leave
out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from nexa_contracts.cost import CostBreakdown, CostEstimate, CostManifest
from nexa_contracts.errors import ConfigError
from nexa_contracts.resources import Resources
from nexa_contracts.run import RunManifest, RunOutcome
from nexa_contracts.site import SiteConfig
from nexa_infra.monitoring.prices import find_rate

GROUPS = ("sweep", "month", "gpu", "name", "run", "tag", "tag:KEY")
NONE = "-"


@dataclass(frozen=True, slots=True)
class CostedRun:
    """What a sum needs to know of a run."""

    run_id: str
    name: str
    created_at: datetime
    sweep_id: str | None
    gpu_type: str | None
    gpus: int
    tags: dict[str, str]
    hours: float
    """Measured wall hours of all attempts."""
    total: float | None
    """None: the rate is unknown."""


@dataclass(frozen=True, slots=True)
class CostRow:
    """One line of a summary."""

    group: str
    runs: int
    hours: float
    known_total: float
    """Sum of the runs whose price is known."""
    unknown_runs: int
    """Runs whose price is unknown; they are in none of the sums of money."""


def units_of(resources: Resources) -> int:
    """Return what is paid for by the hour: the GPUs of all nodes, spares included, or their cores without GPUs."""
    return resources.held_nodes * (resources.gpus_per_node or resources.cpus)


def estimate_cost(resources: Resources, *, runs: int = 1, site: SiteConfig) -> CostEstimate:
    """Return the bound before launch: nodes × GPUs per node × walltime × hourly rate, for each of the runs."""
    rate = find_rate(resources.gpu_type, gpus=resources.gpus_per_node, site=site)
    hours, units = resources.walltime_s / 3600, units_of(resources)
    total = None if rate.hourly is None else runs * hours * units * rate.hourly
    return CostEstimate(runs=runs, hours_per_run=hours, units_per_run=units, rate=rate, total=total)


def cost_of_run(manifest: RunManifest, outcome: RunOutcome, *, now: datetime) -> CostManifest:
    """Return what a run cost: its measured seconds at the rate that was frozen in its manifest."""
    rate, units = manifest.estimate.rate, manifest.estimate.units_per_run
    compute_hours = outcome.seconds / 3600 * units
    return CostManifest(
        run_id=manifest.run_id,
        sweep_id=manifest.sweep_id,
        created_at=now,
        currency=manifest.estimate.currency,
        breakdown=CostBreakdown(compute_hours=compute_hours),
        rate=rate,
        seconds=outcome.seconds,
        units=units,
        estimate=manifest.estimate.total,
        total=None if rate.hourly is None else compute_hours * rate.hourly,
    )


def summarize_costs(runs: Iterable[CostedRun], *, by: str) -> list[CostRow]:
    """Return the sums by `sweep`, `month`, `gpu`, `name`, `run`, `tag` (all tags together) or `tag:KEY`, dearest first.

    Raises:
        ConfigError: there is no such grouping.
    """
    groups: dict[str, list[CostedRun]] = {}
    for run in runs:
        groups.setdefault(_group(run, by), []).append(run)
    rows = [
        CostRow(
            group=group,
            runs=len(members),
            hours=sum(run.hours for run in members),
            known_total=sum(run.total for run in members if run.total is not None),
            unknown_runs=sum(1 for run in members if run.total is None),
        )
        for group, members in groups.items()
    ]
    return sorted(rows, key=lambda row: (-row.known_total, row.group))


def check_group(by: str) -> str:
    """Return the grouping if there is such a one.

    Raises:
        ConfigError: there is not.
    """
    if by in GROUPS[:-1] or (by.startswith("tag:") and len(by) > len("tag:")):
        return by
    raise ConfigError(f"--by: found {by!r}; allowed: {', '.join(GROUPS)}")


def _group(run: CostedRun, by: str) -> str:
    check_group(by)
    if by == "sweep":
        return run.sweep_id or NONE
    if by == "month":
        return f"{run.created_at:%Y-%m}"
    if by == "gpu":
        return (run.gpu_type or "unnamed GPU") if run.gpus else "cpu"
    if by == "name":
        return run.name
    if by == "tag":
        return ", ".join(f"{key}={value}" for key, value in sorted(run.tags.items())) or NONE
    return run.run_id if by == "run" else run.tags.get(by.removeprefix("tag:"), NONE)
