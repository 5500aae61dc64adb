"""Two real clusters that see one folder: what belongs to one is left alone from the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nexa_contracts.errors import ExternalError
from nexa_contracts.states import JobState
from nexa_infra.operations.launch import launch_slurm_sweep, resume_sweep, take_up_sweep
from nexa_infra.operations.live import cancel_runs, live_states
from nexa_infra.operations.watching import Keeper
from nexa_infra.scheduling.fence import find_start
from nexa_infra.scheduling.slurm.chunks import list_submission
from tests.cluster.slurm_cluster import Shape, SlurmCluster
from tests.cluster.sweep_site import SITE, make_project, wait_for, write_sweep

WORK = "import pathlib, time\nwhile not pathlib.Path({go!r}).exists(): time.sleep(0.1)"


def list_records(root: Path) -> list[Path]:
    """Return what lies below a root besides the index, which every look fills from what is there."""
    return sorted(path for path in root.rglob("*") if not path.name.startswith(".index"))


def test_what_one_cluster_runs_another_leaves_alone(
    cluster: SlurmCluster, make_cluster: Callable[[Shape], SlurmCluster], tmp_path: Path
) -> None:
    go = tmp_path / "go"
    context = make_project(cluster, tmp_path)
    path = write_sweep(tmp_path, WORK.format(go=str(go)), {"x": [1, 2]})
    launched = launch_slurm_sweep(path, submit=True, context=context)
    (chunk,) = list_submission(context.project.run(launched.submission))
    assert chunk.cluster == "nexatest"

    other = make_cluster(Shape(nodes=1, cpus=2, extra=("ClusterName=other",)))
    there = make_project(other, tmp_path)
    ask = live_states(there.project, environment=there.environment, clock=there.clock)
    told = ask(launched.run_ids)
    assert {state.state for state in told.values()} == {JobState.UNKNOWN}
    assert all("belongs to cluster nexatest, user" in (state.reason or "") for state in told.values())
    resumed = take_up_sweep(launched.submission, context=there)
    assert (resumed.launched, set(resumed.unknown)) == (None, set(launched.run_ids))
    with pytest.raises(ExternalError, match="belongs to cluster nexatest"):
        cancel_runs(there.project, launched.run_ids[1:], environment=there.environment)
    assert Keeper(there).look().counts == {"UNKNOWN": 2}
    assert other.run("squeue", "-h", "-t", "all").strip() == ""

    Keeper(context).look()  # passes the wish on
    go.touch()
    keeper = Keeper(context)
    wait_for(lambda: keeper.look().is_over, what="the end of both")
    ask = live_states(context.project, environment=context.environment, clock=context.clock)
    assert [ask(launched.run_ids)[run_id].state for run_id in launched.run_ids] == [
        JobState.SUCCEEDED,
        JobState.CANCELLED,
    ]


def test_a_dry_run_of_a_resumption_settles_nothing_and_the_resumption_itself_all(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    context = make_project(cluster, tmp_path, site=f"{SITE}  requeue: false\n")
    path = write_sweep(tmp_path, WORK.format(go=str(tmp_path / "go")), {"x": [1]}, max_retries=0)
    launched = launch_slurm_sweep(path, submit=True, context=context)
    run_dir = context.project.run_dir(launched.run_ids[0])
    wait_for(run_dir.start(1).exists, what="its first attempt")
    begun = find_start(run_dir, 1)
    assert begun is not None
    cluster.kill_node(begun.hostname)
    wait_for(lambda: "NODE_FAIL" in cluster.run("squeue", "-h", "-t", "all", "-o", "%T"), what="the end of its job")
    before = list_records(tmp_path)
    shown = take_up_sweep(launched.submission, dry_run=True, context=context)
    assert shown.launched is None
    assert "not settled by this look" in shown.unknown[launched.run_ids[0]]
    assert list_records(tmp_path) == before
    (tmp_path / "go").touch()
    resumed = resume_sweep(launched.submission, context=context)
    assert resumed is not None
    assert resumed.job_count == 1
