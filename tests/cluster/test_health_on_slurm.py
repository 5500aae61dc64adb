"""Node health on a real Slurm: every node is asked, one that is down is named, none holds up another."""

from __future__ import annotations

import os
from pathlib import Path

from nexa_contracts.clock import SystemClock
from nexa_contracts.health import HealthRequest
from nexa_contracts.site import SlurmSite
from nexa_infra.health.remote import Cluster, check_nodes, expand_nodes
from nexa_infra.health.sources import Sources
from nexa_infra.process import Call, CommandRunner, Completed, SystemRunner
from tests.cluster.slurm_cluster import SlurmCluster


class ClusterRunner(CommandRunner):
    """Runs programs as one who is logged in on the cluster."""

    def __init__(self, cluster: SlurmCluster) -> None:
        self._environment = {**os.environ, **cluster.environment}

    def _run(self, call: Call) -> Completed:
        return SystemRunner().run(call.argv, timeout_s=call.timeout_s, cwd=call.cwd, env=self._environment)


def test_every_node_reports_and_one_that_is_down_is_named(cluster: SlurmCluster, tmp_path: Path) -> None:
    sources = Sources(ClusterRunner(cluster), SystemClock(), {})
    nodes = expand_nodes(sources, "n[1-2]")
    request = HealthRequest(node="any", gpus=0, clock_folder=str(tmp_path))
    reports = check_nodes(Cluster(sources, SlurmSite()), (*nodes, "n9"), request)
    assert [report.node for report in reports] == ["n1", "n2", "n9"]
    assert ["clock" in [check.name for check in report.checks] for report in reports] == [True, True, False]
    assert reports[2].checks[0].result == "unknown"
    assert "Invalid node name" in reports[2].checks[0].evidence
    cluster.kill_node("n2")
    (down,) = check_nodes(Cluster(sources, SlurmSite()), ("n2",), request)
    assert not down.is_healthy
    assert down.checks[0].evidence == "Slurm says that it is down: plug pulled by a test"
