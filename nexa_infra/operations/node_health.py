"""What a launch does about the nodes it will get: which are kept out, and what each is checked for before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from nexa_contracts.errors import ConfigError, ExternalError
from nexa_contracts.health import HealthPlan, HealthRequest, WatchedFolder
from nexa_contracts.resources import Resources
from nexa_contracts.run import RunConfig
from nexa_contracts.site import TierPaths
from nexa_contracts.units import parse_duration_s
from nexa_infra.health.ledger import Ledger, Quarantine
from nexa_infra.operations.backends import site_slurm_client
from nexa_infra.operations.context import Context

_CHECKED = "torchrun"
"""The launcher whose jobs are checked: nodes and processes that wait for one another."""
_ANY = "any"
"""The node of a request for every node: each puts in its own name."""
_TOO_SLOW = "gpu_diagnosis"
"""Takes up to half a minute where DCGM is installed, and every start would wait for it; `nexa health` runs it."""
_SHARED = "gpu_leftovers"
"""Says nothing of a GPU that others may use at the same time."""
_MOVES = 3
"""Each costs a turn in the queue; after so many it is more than a node."""
_NCCL_S = 180.0
"""For an all-reduce, with the loading of torch from a slow file system."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a node must have. None: whatever is there."""

    gpus: int | None = None
    cpus: int | None = None
    memory_bytes: int | None = None
    measure_speed: bool = False


def make_request(context: Context, node: str, demand: Demand) -> HealthRequest:
    """Return what a node of this site is checked for: the tiers, the site's mounts, and what is demanded."""
    site = context.site.health
    tiers = (context.tiers.scratch, context.tiers.durable, context.tiers.shared)
    # The default tiers are made by the first launch; named ones must be there.
    paths = [_nearest(path) if context.site.tiers == TierPaths() else path for path in tiers]
    folders = [WatchedFolder(path=str(path), must_write=True) for path in dict.fromkeys(paths)]
    folders += [WatchedFolder(path=path, must_mount=True) for path in site.mounts]
    return HealthRequest(
        node=node,
        gpus=demand.gpus,
        cpus=demand.cpus,
        memory_bytes=demand.memory_bytes,
        folders=tuple(folders),
        clock_folder=str(paths[-1]),
        accept_unknown=site.accept_unknown,
        skip=site.skip,
        measure_speed=demand.measure_speed,
    )


def open_ledger(context: Context) -> Ledger:
    """Return the quarantine ledger of the site's cluster; nothing is made until something is recorded."""
    lasts = timedelta(seconds=parse_duration_s(context.site.health.quarantine_for))
    return Ledger(_locate_ledger(context), quarantine_for=lasts)


def keep_out(context: Context) -> tuple[Context, tuple[Quarantine, ...]]:
    """Return the context with the nodes under quarantine left out of the cluster, and their quarantines.

    A name that is none of the cluster's nodes any more stands for nothing: sbatch would refuse the whole job.

    Raises:
        StorageError: the ledger is there and cannot be read.
    """
    standing = open_ledger(context).standing(context.clock.now())
    if not standing:
        return context, ()
    try:
        known = site_slurm_client(context).list_nodes()
    except ExternalError:  # a plan can be looked at anywhere; to submit it Slurm must answer
        known = frozenset(each.node for each in standing)
    kept_out = tuple(each for each in standing if each.node in known)
    slurm = context.site.slurm
    names = tuple(dict.fromkeys((*slurm.exclude, *(each.node for each in kept_out))))
    site = context.site.model_copy(update={"slurm": slurm.model_copy(update={"exclude": names})})
    return replace(context, site=site), kept_out


@dataclass(frozen=True, slots=True)
class HealthPlanner:
    """Works out what is done about the nodes of each run of a launch; equal runs share the work."""

    context: Context
    backend: str
    _requests: dict[tuple[Resources, Path], HealthRequest] = field(default_factory=dict)

    def plan(self, config: RunConfig, *, launcher: str, code: Path) -> HealthPlan | None:
        """Return it for one run, whose nodes must agree on the code in a folder; None: nothing is done.

        Raises:
            ConfigError: spares are asked for, and no check that could call for them.
        """
        site, resources = self.context.site.health, config.resources
        wants = site.before_start if config.check_nodes is None else config.check_nodes
        is_checked = wants and launcher == _CHECKED
        if resources.spares and not is_checked:
            raise ConfigError(
                f"resources.spares: found {resources.spares}; allowed without a check of the nodes: 0",
                hint="check_nodes of the run, health.before_start of the site file",
            )
        is_cluster = self.backend == "slurm"
        if not (is_checked or is_cluster):
            return None
        return HealthPlan(
            ledger=str(_locate_ledger(self.context)) if is_cluster else None,
            request=self._find_request(resources, code) if is_checked else None,
            all_reduce=site.all_reduce,
            **({"join_s": _NCCL_S} if site.all_reduce and resources.gpus_per_node else {}),
            moves=_MOVES if is_checked and is_cluster and self.context.site.slurm.requeue else 0,
        )

    def _find_request(self, resources: Resources, code: Path) -> HealthRequest:
        key = (resources, code)
        if key not in self._requests:
            skip: Sequence[str] = (_TOO_SLOW, _SHARED) if resources.share_gpus else (_TOO_SLOW,)
            demand = Demand(resources.gpus_per_node, resources.cpus, resources.memory_bytes)
            request = make_request(self.context, _ANY, demand)
            update = {"code": str(code), "skip": tuple(dict.fromkeys((*request.skip, *skip)))}
            self._requests[key] = request.model_copy(update=update)
        return self._requests[key]


def _locate_ledger(context: Context) -> Path:
    return context.tiers.health(context.site.health.cluster) / "ledger.jsonl"


def _nearest(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())
