"""The runs of one launch: a single one, or the members of a sweep, made when they are looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, overload

from nexa_contracts import ids
from nexa_contracts.base import Scalar
from nexa_contracts.cost import CostEstimate
from nexa_contracts.errors import ConfigError
from nexa_contracts.resources import Resources
from nexa_contracts.run import ResumeRef, RunConfig
from nexa_contracts.site import SiteConfig
from nexa_infra.monitoring.costs import estimate_cost
from nexa_infra.scheduling.points import vary
from nexa_infra.scheduling.sweep import SweepDefinition

MAX_RUNS = 100_000
"""Most runs of one launch. Each is 2 KB in the launcher and some files on disk; more would fill a machine unasked."""
_KEPT = 4_096
"""Most members that are kept once they are made, 4 KB each; of more each is made again whenever it is looked at."""
_SHOWN_MISFITS = 10
ItemT = TypeVar("ItemT")


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


@dataclass(frozen=True, slots=True)
class MadeOnDemand(Sequence[ItemT]):
    """A sequence that holds nothing: an item is made, equal each time, when it is asked for."""

    size: int
    make: Callable[[int], ItemT]

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[ItemT]:
        return map(self.make, range(self.size))

    @overload
    def __getitem__(self, position: int) -> ItemT: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[ItemT]: ...
    def __getitem__(self, position: int | slice) -> ItemT | Sequence[ItemT]:
        chosen = range(self.size)[position]
        return self.make(chosen) if isinstance(chosen, int) else [self.make(each) for each in chosen]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What one look at every member of a launch has found."""

    members: Sequence[Member]
    run_ids: tuple[str, ...]
    indices: tuple[int, ...]
    """Array index of each member; 0 for a single run."""
    sizes: Mapping[Resources, int]
    """How many runs ask for what."""
    datasets: tuple[str, ...]
    snapshots: tuple[str, ...]
    """Digests of recorded code snapshots that members run."""
    trains: bool
    """Whether any member trains, and does not only run a command."""
    configs: tuple[RunConfig, ...]
    """One for each set of secrets, and for each text among the parameters: what policies tell configs apart by."""


def expand_sweep(
    definition: SweepDefinition,
    base: RunConfig,
    *,
    stamp: str,
    tags: dict[str, str],
    indices: Sequence[int] | None = None,
) -> Sequence[Member]:
    """Return the members with these indices (None: all), in their order, each made when it is looked at.

    Their ids share the stamp. Looking at a member whose point does not fit the run config raises ConfigError.

    Raises:
        ConfigError: there are more than MAX_RUNS.
    """
    chosen = range(len(definition)) if indices is None else indices
    if len(chosen) > MAX_RUNS:
        raise ConfigError(
            f"axes: found {len(chosen)} runs; allowed: at most {MAX_RUNS} in one launch",
            hint="search: random with fewer trials, or split the sweep",
        )
    tagged = base.model_copy(update={"tags": {**base.tags, **tags}})
    put = vary(tagged, [key for key, _ in definition.axes])

    def make(position: int) -> Member:
        index = chosen[position]
        point = definition.point(index)
        run_id = ids.run_id(stamp, index=index, count=len(definition))
        config = put(point, f"point {index}") if point else tagged  # the job puts its point into it
        return Member(run_id=run_id, config=config, index=index, point=point)

    return MadeOnDemand(len(chosen), make)


def survey_members(members: Sequence[Member]) -> Survey:
    """Return what there is to know of all members together, after one look at each.

    Raises:
        ConfigError: points do not fit the run config, one line each for the first ten.
    """
    run_ids: list[str] = []
    indices: list[int] = []
    sizes: Counter[Resources] = Counter()
    datasets: dict[str, None] = {}
    snapshots: dict[str, None] = {}
    configs: dict[object, RunConfig] = {}
    trains = False
    kept: list[Member] = []
    for member in _each_fitting(members):
        config = member.config
        if len(members) <= _KEPT:
            kept.append(member)
        run_ids.append(member.run_id)
        indices.append(member.index or 0)
        sizes[config.resources] += 1
        trains = trains or config.training is not None
        if config.data is not None:
            datasets[config.data.dataset] = None
        if member.snapshot is not None:
            snapshots[member.snapshot] = None
        for mark in _marks(config):
            configs.setdefault(mark, config)
    return Survey(
        members=kept or members,
        run_ids=tuple(run_ids),
        indices=tuple(indices),
        sizes=sizes,
        datasets=tuple(datasets),
        snapshots=tuple(snapshots),
        trains=trains,
        configs=tuple({id(config): config for config in configs.values()}.values()),
    )


def estimate_runs(sizes: Mapping[Resources, int], site: SiteConfig) -> CostEstimate:
    """Return the bound on what runs of these sizes may cost together; None in it where a price is unknown."""
    parts = [estimate_cost(resources, runs=runs, site=site) for resources, runs in sizes.items()]
    if len(parts) == 1:
        return parts[0]
    known = [part.total for part in parts if part.total is not None]
    # Where one price is unknown the sum is too, and that price is the one to tell.
    shown = next((part for part in parts if part.total is None), parts[0])
    return shown.model_copy(
        update={
            "runs": sum(sizes.values()),
            "hours_per_run": max(part.hours_per_run for part in parts),
            "units_per_run": max(part.units_per_run for part in parts),
            "total": sum(known) if len(known) == len(parts) else None,
        }
    )


def _each_fitting(members: Sequence[Member]) -> Iterator[Member]:
    problems: dict[str, None] = {}
    for position in range(len(members)):
        try:
            member = members[position]
        except ConfigError as error:
            problems.update(dict.fromkeys(error.message.splitlines()))
            if len(problems) >= _SHOWN_MISFITS:
                break
        else:
            yield member
    if problems:
        raise ConfigError("\n".join(problems))


def _marks(config: RunConfig) -> Iterator[object]:
    yield config.secrets
    for item in config.params.items():
        if isinstance(item[1], str):
            yield item
