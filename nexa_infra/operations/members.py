"""The runs of one launch: a single one, or the members of a sweep."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from nexa_contracts import ids
from nexa_contracts.base import Scalar
from nexa_contracts.config import apply_point
from nexa_contracts.cost import CostEstimate
from nexa_contracts.errors import ConfigError
from nexa_contracts.resources import Resources
from nexa_contracts.run import ResumeRef, RunConfig
from nexa_contracts.site import SiteConfig
from nexa_infra.monitoring.costs import estimate_cost
from nexa_infra.scheduling.sweep import SweepDefinition

MAX_RUNS = 100_000
"""Most runs of one launch. Each is 20 KB in the launcher and some files on disk; more would fill a machine unasked."""


@dataclass(frozen=True, slots=True)
class Member:
    """One run that is to be submitted."""

    run_id: str
    config: RunConfig
    index: int | None = None
    point: dict[str, Scalar] = field(default_factory=dict)
    resumes: ResumeRef | None = None
    snapshot: str | None = None
    """Digest of the recorded code snapshot it runs; None: the code as it is now."""
    is_recorded: bool = False
    """Its manifest stands already: it was planned once and never submitted."""


def expand_sweep(
    definition: SweepDefinition,
    base: RunConfig,
    *,
    stamp: str,
    tags: dict[str, str],
    indices: Sequence[int] | None = None,
) -> list[Member]:
    """Return the members with these indices (None: all), in rising order; ids share the stamp.

    Raises:
        ConfigError: a point does not fit the run config, or there are more than MAX_RUNS.
    """
    chosen = range(len(definition)) if indices is None else indices
    if len(chosen) > MAX_RUNS:
        raise ConfigError(
            f"axes: found {len(chosen)} runs; allowed: at most {MAX_RUNS} in one launch",
            hint="search: random with fewer trials, or split the sweep",
        )
    tagged = base.model_copy(update={"tags": {**base.tags, **tags}})
    return [
        Member(
            run_id=ids.run_id(stamp, index=index, count=len(definition)),
            config=apply_point(tagged, point, source=f"point {index}"),
            index=index,
            point=point,
        )
        for index, point in ((index, definition.point(index)) for index in chosen)
    ]


def estimate_members(members: Sequence[Member], site: SiteConfig) -> CostEstimate:
    """Return the bound on what the members may cost together; None in it where a price is unknown."""

    def needs(member: Member) -> str:
        return member.config.resources.model_dump_json()

    parts = [
        estimate_cost(_resources(group), runs=len(group), site=site)
        for group in (list(items) for _, items in itertools.groupby(sorted(members, key=needs), key=needs))
    ]
    if len(parts) == 1:
        return parts[0]
    known = [part.total for part in parts if part.total is not None]
    # Where one price is unknown the sum is too, and that price is the one to tell.
    shown = next((part for part in parts if part.total is None), parts[0])
    return shown.model_copy(
        update={
            "runs": len(members),
            "hours_per_run": max(part.hours_per_run for part in parts),
            "units_per_run": max(part.units_per_run for part in parts),
            "total": sum(known) if len(known) == len(parts) else None,
        }
    )


def _resources(group: Sequence[Member]) -> Resources:
    return group[0].config.resources
