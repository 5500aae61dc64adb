"""Sweeps on a real cluster, from the file to the outcomes, through what clusters do meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nexa_contracts.errors import ConfigError, ExternalError
from nexa_contracts.states import JobState
from nexa_infra.operations.context import Context
from nexa_infra.operations.handing_over import hand_over_rest
from nexa_infra.operations.launch import launch_slurm_sweep, launch_training_job, resume_sweep
from nexa_infra.operations.live import cancel_runs, live_states, member_ids, read_logs
from nexa_infra.operations.status import SubmissionView, Watcher
from nexa_infra.operations.watching import Keeper
from nexa_infra.scheduling.slurm.chunks import list_submission
from nexa_infra.scheduling.slurm.client import SlurmRefused, SlurmUnreachable
from nexa_infra.storage.manifests import find_cost, read_attempts, read_outcome
from tests.cluster.slurm_cluster import Shape, SlurmCluster
from tests.cluster.sweep_site import SITE, make_project, wait_for, write_sweep

SAY = "import json, os; x = json.load(open(os.environ['NEXA_RUN_CONFIG']))['params']['x']; print('x is', x)"
LONG = "import time; print('begun', flush=True); time.sleep(600)"


def look(context: Context, sweep_id: str) -> SubmissionView:
    """Return what `nexa status` shows."""
    ask = live_states(context.project, environment=context.environment, clock=context.clock)
    return Watcher(context.project, sweep_id, member_ids(context.project, sweep_id), ask).look()


def wait_for_end(context: Context, sweep_id: str) -> dict[int, JobState]:
    """Return how the members of a sweep ended, by index."""
    wait_for(lambda: look(context, sweep_id).is_final, what=f"end of {sweep_id}")
    return {run.index: run.state for run in look(context, sweep_id).runs if run.index is not None}


def count_jobs(cluster: SlurmCluster, sweep_id: str) -> int:
    """Return how many tasks Slurm was given for a sweep, ended ones included."""
    names = cluster.run("squeue", "-h", "-r", "-t", "all", "-o", "%j").split()
    return sum(name.startswith(sweep_id) for name in names)


def test_a_sweep_file_becomes_an_array_and_every_run_its_record(cluster: SlurmCluster, tmp_path: Path) -> None:
    context = make_project(cluster, tmp_path)
    path = write_sweep(tmp_path, f"{SAY}; raise SystemExit(65 if x == 3 else 0)", {"x": [1, 2, 3]})
    launched = launch_slurm_sweep(path, submit=True, context=context)
    assert launched.job_count == 3
    assert wait_for_end(context, launched.submission) == {
        0: JobState.SUCCEEDED,
        1: JobState.SUCCEEDED,
        2: JobState.FAILED,
    }
    view = look(context, launched.submission)
    assert view.counts == {"SUCCEEDED": 2, "FAILED": 1}
    assert (view.runs[2].failure, view.runs[2].evidence) == (
        "diverged: the loss diverged (status 65)",
        ("x is 3",),
    )
    assert list(read_logs(context.project, launched.run_ids[0], follow=True)) == ["x is 1"]
    Keeper(context).look()
    assert find_cost(context.project, launched.run_ids[0]) is not None


def test_without_submit_everything_is_written_and_nothing_handed_over(cluster: SlurmCluster, tmp_path: Path) -> None:
    context = make_project(cluster, tmp_path)
    planned = launch_slurm_sweep(write_sweep(tmp_path, SAY, {"x": [1, 2]}), context=context)
    assert (planned.is_submitted, count_jobs(cluster, planned.submission)) == (False, 0)
    folder = context.project.run(planned.submission)
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == [
        "job.sbatch",
        "plan.json",
        "slurm.json",
        "spec.json",
    ]
    resumed = resume_sweep(planned.submission, context=context)
    assert resumed is not None
    assert resumed.run_ids == planned.run_ids
    assert set(wait_for_end(context, planned.submission).values()) == {JobState.SUCCEEDED}


def test_a_dry_run_shows_script_spec_and_arrays_and_writes_nothing(cluster: SlurmCluster, tmp_path: Path) -> None:
    context = make_project(cluster, tmp_path, site=SITE + "  max_array_size: 40\n")
    before = sorted(tmp_path.rglob("*"))
    path = write_sweep(tmp_path, SAY, {"x": list(range(100))})
    shown = launch_slurm_sweep(path, dry_run=True, context=context)
    assert [file.path for file in shown.plan.files] == ["spec.json", "job.sbatch", "slurm.json"]
    assert [word for command in shown.plan.commands for word in command if word.startswith("--array")] == [
        "--array=0-39",
        "--array=0-39",
        "--array=0-19",
    ]
    assert sorted(tmp_path.rglob("*")) == sorted([*before, path])


def test_resuming_submits_what_failed_or_is_missing_and_nothing_else(cluster: SlurmCluster, tmp_path: Path) -> None:
    context = make_project(cluster, tmp_path)
    mended = tmp_path / "mended"
    code = f"{SAY}; raise SystemExit(65 if x == 2 and not os.path.exists({str(mended)!r}) else 0)"
    launched = launch_slurm_sweep(write_sweep(tmp_path, code, {"x": [1, 2, 3]}), submit=True, context=context)
    assert wait_for_end(context, launched.submission)[1] is JobState.FAILED
    mended.touch()
    resumed = resume_sweep(launched.submission, context=context)
    assert resumed is not None
    assert resumed.job_count == 1
    # Once more while it waits or runs, as from another machine.
    assert resume_sweep(launched.submission, context=make_project(cluster, tmp_path)) is None
    assert set(wait_for_end(context, launched.submission).values()) == {JobState.SUCCEEDED}
    assert resume_sweep(launched.submission, context=context) is None
    assert count_jobs(cluster, launched.submission) == 4


def test_with_the_controller_down_nothing_is_written(cluster: SlurmCluster, tmp_path: Path) -> None:
    context = make_project(cluster, tmp_path)
    path = write_sweep(tmp_path, SAY, {"x": [1, 2]})
    cluster.stop_controller()
    with pytest.raises(SlurmUnreachable, match=r"(?i)unable to contact slurm controller|no answer"):
        launch_slurm_sweep(path, submit=True, context=context)
    assert not (tmp_path / "runs" / "manifests").exists()


def test_with_the_controller_down_no_state_changes_and_a_plan_waits(cluster: SlurmCluster, tmp_path: Path) -> None:
    context = make_project(cluster, tmp_path)
    planned = launch_slurm_sweep(write_sweep(tmp_path, LONG, {"x": [1, 2]}), submit=True, context=context)
    cluster.stop_controller()
    view = look(context, planned.submission)
    assert (view.counts, view.trouble is not None) == ({"UNKNOWN": 2}, True)
    with pytest.raises(ExternalError):
        resume_sweep(planned.submission, context=context)
    assert Keeper(context).look().troubles != ()
    cluster.start_controller()
    assert set(look(context, planned.submission).counts) <= {"PENDING", "RUNNING"}
    cancel_runs(context.project, planned.run_ids, environment=context.environment)
    assert set(wait_for_end(context, planned.submission).values()) == {JobState.CANCELLED}


def test_an_answer_that_is_lost_leads_to_one_array(cluster: SlurmCluster, tmp_path: Path) -> None:
    context = make_project(cluster, tmp_path)
    launched = launch_slurm_sweep(write_sweep(tmp_path, SAY, {"x": [1, 2]}), submit=True, context=context)
    (chunk,) = list_submission(context.project.run(launched.submission))
    # As if the launcher had been killed before it could write the answer down.
    data = json.loads(chunk.path.read_text())
    chunk.path.write_text(json.dumps({**data, "job_id": None}))
    assert hand_over_rest(context, [launched.submission]) == 2
    (found,) = list_submission(context.project.run(launched.submission))
    assert found.job_id == chunk.job_id
    assert set(wait_for_end(context, launched.submission).values()) == {JobState.SUCCEEDED}
    assert count_jobs(cluster, launched.submission) == 2


def test_chunks_beyond_the_sites_limit_are_handed_over_as_room_comes(cluster: SlurmCluster, tmp_path: Path) -> None:
    context = make_project(cluster, tmp_path, site=SITE + "  max_submitted: 4\n  max_array_size: 4\n")
    launched = launch_slurm_sweep(write_sweep(tmp_path, SAY, {"x": list(range(10))}), submit=True, context=context)
    assert [handle.job_id != "" for handle in launched.handles] == [True] * 4 + [False] * 6
    keeper = Keeper(context)
    wait_for(lambda: keeper.look().is_over, what="all chunks handed over and ended")
    assert set(wait_for_end(context, launched.submission).values()) == {JobState.SUCCEEDED}
    assert count_jobs(cluster, launched.submission) == 10


def test_a_refused_chunk_leaves_those_before_it_and_resuming_submits_the_rest(
    make_cluster: Callable[[Shape], SlurmCluster], tmp_path: Path
) -> None:
    # The second array is larger than this cluster takes.
    cluster = make_cluster(Shape(nodes=1, cpus=4, gpus=0, max_array_size=3))
    context = make_project(cluster, tmp_path, site=SITE + "  max_array_size: 9\n")
    path = write_sweep(tmp_path, SAY, {"x": [1, 2, 3, 4]})
    with pytest.raises(SlurmRefused, match="Invalid job array specification") as caught:
        launch_slurm_sweep(path, submit=True, context=context)
    assert caught.value.hint is not None
    (sweep_id,) = (path.stem for path in context.project.manifests.glob("sweep_*.json"))
    assert count_jobs(cluster, sweep_id) == 0
    context = make_project(cluster, tmp_path)
    resumed = resume_sweep(sweep_id, context=context)
    assert resumed is not None
    assert (resumed.job_count, len(resumed.plan.commands)) == (4, 2)
    assert set(wait_for_end(context, sweep_id).values()) == {JobState.SUCCEEDED}


def test_cancelling_ends_what_runs_and_what_waits(cluster: SlurmCluster, tmp_path: Path) -> None:
    context = make_project(cluster, tmp_path)
    path = write_sweep(tmp_path, LONG, {"x": [1, 2, 3, 4]}, more="max_parallel: 2")
    launched = launch_slurm_sweep(path, submit=True, context=context)
    wait_for(lambda: look(context, launched.submission).counts.get("RUNNING") == 2, what="two of them to run")
    wait_for(
        lambda: sum("begun" in list(read_logs(context.project, each, follow=False)) for each in launched.run_ids) == 2,
        what="their first words",
    )
    cancel_runs(context.project, launched.run_ids, environment=context.environment)
    cancel_runs(context.project, launched.run_ids, environment=context.environment)
    assert set(wait_for_end(context, launched.submission).values()) == {JobState.CANCELLED}
    attempts = [read_outcome(context.project, each).attempts for each in launched.run_ids]
    assert attempts == [1, 1, 0, 0]
    assert [record.state for record in read_attempts(context.project, launched.run_ids[0])] == [JobState.CANCELLED]


def test_a_job_that_cannot_ever_run_is_refused_before_anything_is_written(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    context = make_project(cluster, tmp_path)
    path = write_sweep(tmp_path, SAY, {"x": [1]})
    path.write_text(path.read_text().replace("memory: 64MiB", "memory: 4TiB"))
    with pytest.raises(ConfigError, match=r"resources\.memory: found 4TiB; allowed: at most 64\.0 GiB on a node"):
        launch_slurm_sweep(path, submit=True, context=context)
    make_project(cluster, tmp_path, site=SITE + "  partition: nowhere\n")
    path = write_sweep(tmp_path, SAY, {"x": [1]})
    with pytest.raises(ConfigError, match=r"slurm\.partition: found nowhere; allowed: main, short"):
        launch_slurm_sweep(
            path, submit=True, context=make_project(cluster, tmp_path, site=SITE + "  partition: nowhere\n")
        )
    assert not (tmp_path / "runs").exists()


def test_a_node_that_dies_under_a_job_that_is_not_requeued_is_told(cluster: SlurmCluster, tmp_path: Path) -> None:
    context = make_project(cluster, tmp_path, site=SITE + "  requeue: false\n")
    launched = launch_slurm_sweep(write_sweep(tmp_path, LONG, {"x": [1]}), submit=True, context=context)
    (run_id,) = launched.run_ids
    wait_for(lambda: "begun" in list(read_logs(context.project, run_id, follow=False)), what="its first word")
    node = cluster.run("squeue", "-h", "-o", "%N").strip()
    cluster.kill_node(node)
    assert wait_for_end(context, launched.submission) == {0: JobState.NODE_FAILED}
    outcome = read_outcome(context.project, run_id)
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.evidence) == ("lost", ("begun",))
    assert f"NODE_FAIL on {node}" in outcome.failure.message


def test_a_single_run_is_a_job_and_no_array(cluster: SlurmCluster, tmp_path: Path) -> None:
    context = make_project(cluster, tmp_path)
    path = tmp_path / "run.yaml"
    path.write_text("command: [python3, -c, print('alone')]\nresources: {memory: 64MiB, walltime: 5m}\n")
    launched = launch_training_job(path, backend="slurm", context=context)
    (handle,) = launched.handles
    assert handle.job_id.isdecimal()
    assert wait_single(context, launched.submission) is JobState.SUCCEEDED
    assert list(read_logs(context.project, launched.submission, follow=True)) == ["alone"]


def wait_single(context: Context, run_id: str) -> JobState:
    wait_for(lambda: look(context, run_id).is_final, what=f"end of {run_id}")
    return look(context, run_id).runs[0].state
