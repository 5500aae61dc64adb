"""Checks of this machine or of named nodes, the fleet's baseline, and the quarantine ledger of the site's cluster."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from nexa_contracts.errors import CommandMissing
from nexa_contracts.health import Baseline, HealthReport, HealthRequest, WatchedFolder
from nexa_contracts.site import TierPaths
from nexa_contracts.units import parse_duration_s
from nexa_infra.health.ledger import Ledger
from nexa_infra.health.remote import Cluster, check_nodes, expand_nodes
from nexa_infra.health.run import check_node, own_name
from nexa_infra.health.sources import Sources
from nexa_infra.health.speed import read_baseline, store_baseline
from nexa_infra.operations.context import Context


@dataclass(frozen=True, slots=True)
class Demand:
    """What a node must have. None: whatever is there."""

    gpus: int | None = None
    cpus: int | None = None
    memory_bytes: int | None = None
    measure_speed: bool = False


def examine_nodes(context: Context, nodes: str | None, demand: Demand) -> tuple[HealthReport, ...]:
    """Return the reports of the nodes in a list such as `n1,n[3-5]`, through srun; without a list, of this machine.

    Raises:
        ConfigError: it is no list of nodes, or the site file is wrong.
        CommandMissing: other nodes are named, and there is no Slurm here.
    """
    sources = Sources(runner=context.runner, clock=context.clock, environment=context.environment)
    here = own_name(context.environment, socket.gethostname())
    request = make_request(context, here, demand)
    names = (here,) if nodes is None else expand_nodes(sources, nodes)
    if names == (here,):
        return (check_node(sources, request),)
    cluster = Cluster(sources, context.site.slurm, inside_job="SLURM_JOB_ID" in context.environment)
    try:
        return check_nodes(cluster, names, request)
    except CommandMissing as error:
        others = ", ".join(name for name in names if name != here)
        raise CommandMissing(
            f"{others}: other nodes are checked through Slurm, and there is no srun here",
            hint="run `nexa health` on the node itself",
        ) from error


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
        measure_speed=demand.measure_speed,
        baseline=read_baseline(_baseline_path(context)) if demand.measure_speed else None,
    )


def keep_baseline(context: Context, reports: Sequence[HealthReport]) -> tuple[Baseline, Path]:
    """Return the baseline that the reports' speeds became, and where it was stored.

    Raises:
        EvidenceMissing: no speed was measured.
        StorageError: the shared tier cannot be written.
    """
    context.require_tiers()
    path = _baseline_path(context)
    return store_baseline(path, reports, now=context.clock.now()), path


def open_ledger(context: Context) -> Ledger:
    """Return the quarantine ledger of the site's cluster; nothing is made until something is recorded."""
    site = context.site.health
    lasts = timedelta(seconds=parse_duration_s(site.quarantine_for))
    return Ledger(context.tiers.health(site.cluster) / "ledger.jsonl", quarantine_for=lasts)


def _baseline_path(context: Context) -> Path:
    return context.tiers.health(context.site.health.cluster) / "baseline.json"


def _nearest(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())
