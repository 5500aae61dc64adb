"""Checks of this machine or of named nodes, and the fleet's baseline."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from nexa_contracts.errors import CommandMissing
from nexa_contracts.health import Baseline, HealthReport
from nexa_infra.health.naming import own_name
from nexa_infra.health.remote import Cluster, check_nodes, expand_nodes
from nexa_infra.health.run import check_node
from nexa_infra.health.sources import Sources
from nexa_infra.health.speed import read_baseline, store_baseline
from nexa_infra.operations.context import Context
from nexa_infra.operations.node_health import Demand, make_request


def examine_nodes(context: Context, nodes: str | None, demand: Demand) -> tuple[HealthReport, ...]:
    """Return the reports of the nodes in a list such as `n1,n[3-5]`, through srun; without a list, of this machine.

    Raises:
        ConfigError: it is no list of nodes, or the site file is wrong.
        CommandMissing: other nodes are named, and there is no Slurm here.
    """
    sources = Sources(runner=context.runner, clock=context.clock, environment=context.environment)
    here = own_name(context.environment, socket.gethostname())
    request = make_request(context, here, demand)
    if demand.measure_speed:
        request = request.model_copy(update={"baseline": read_baseline(_baseline_path(context))})
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


def keep_baseline(context: Context, reports: Sequence[HealthReport]) -> tuple[Baseline, Path]:
    """Return the baseline that the reports' speeds became, and where it was stored.

    Raises:
        EvidenceMissing: no speed was measured.
        StorageError: the shared tier cannot be written.
    """
    context.require_tiers()
    path = _baseline_path(context)
    return store_baseline(path, reports, now=context.clock.now()), path


def _baseline_path(context: Context) -> Path:
    return context.tiers.health(context.site.health.cluster) / "baseline.json"
