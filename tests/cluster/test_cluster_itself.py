"""The test cluster itself: what tests break on it is whole again afterwards."""

from __future__ import annotations

from tests.cluster.slurm_cluster import SlurmCluster


def test_it_comes_up_with_all_its_nodes(cluster: SlurmCluster) -> None:
    """Real daemons, idle nodes."""
    assert cluster.list_ready() == frozenset(cluster.node_names)


def test_what_was_broken_is_whole_again_and_no_job_stays(cluster: SlurmCluster) -> None:
    """The next test starts on the same ground."""
    cluster.run("sbatch", "--parsable", "--hold", "--wrap=true", "--output=/dev/null", "--chdir=/")
    cluster.kill_node("n2")
    cluster.stop_controller(hard=True)
    cluster.restore()
    assert cluster.list_ready() == frozenset(cluster.node_names)
    assert cluster.run("squeue", "--noheader") == ""
