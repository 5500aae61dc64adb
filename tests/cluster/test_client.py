"""The client on a real Slurm: what is asked is done, every form says the same, and each failure is one clear line."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from nexa_contracts.clock import SystemClock
from nexa_contracts.resources import Resources
from nexa_contracts.site import SlurmSite
from nexa_infra.process import Completed, SystemRunner
from nexa_infra.scheduling.slurm.client import SlurmClient, SlurmMissing, SlurmRefused, SlurmUnreachable
from nexa_infra.scheduling.slurm.options import render_after, render_options
from nexa_infra.scheduling.slurm.replies import SlurmJob
from nexa_infra.testing.process import FakeRunner
from tests.cluster.slurm_cluster import Shape, SlurmCluster

SMALL = Resources(memory="64MiB", walltime="5m")
SITE = SlurmSite(signal_lead="30s")
DEADLINE_S = 90.0


def make_client(
    cluster: SlurmCluster, *, timeout_s: float = 60.0, more: Mapping[str, str] | None = None
) -> SlurmClient:
    known = {"PATH": os.environ["PATH"], **cluster.environment, **(more or {})}
    return SlurmClient(SystemRunner(), environment=known, clock=SystemClock(), timeout_s=timeout_s)


def submit(
    client: SlurmClient, folder: Path, command: str, *, name: str = "job", more: Iterable[str] = (), **site: Any
) -> str:
    script = folder / "job.sbatch"
    script.write_text('#!/bin/sh\nexec /bin/sh -c "$1"\n')
    array = next((word.removeprefix("--array=") for word in more if word.startswith("--array=")), None)
    options = render_options(
        SMALL, SITE.model_copy(update=site), job_name=name, output="%A_%a.out", export=("PATH",), array=array
    )
    rest = [word for word in more if not word.startswith("--array=")]
    return client.submit([*options, *rest], script, [command])


def wait_for(client: SlurmClient, holds: Callable[[tuple[SlurmJob, ...]], bool]) -> tuple[SlurmJob, ...]:
    deadline_s = time.monotonic() + DEADLINE_S
    while not holds(jobs := client.list_jobs()):
        assert time.monotonic() < deadline_s, jobs
        time.sleep(0.1)
    return jobs


def by_name(jobs: Iterable[SlurmJob]) -> dict[str, SlurmJob]:
    return {job.name: job for job in jobs}


def test_a_job_is_submitted_seen_and_its_end_read(cluster: SlurmCluster, tmp_path: Path) -> None:
    client = make_client(cluster)
    good = submit(client, tmp_path, "true", name="good")
    bad = submit(client, tmp_path, "exit 7", name="bad")
    killed = submit(client, tmp_path, "kill -9 $$", name="killed")
    states = {good: ("COMPLETED", 0), bad: ("FAILED", 7), killed: ("FAILED", -9)}
    jobs = wait_for(
        client, lambda jobs: all({j.job_id: j.state for j in jobs}.get(i) == s[0] for i, s in states.items())
    )
    assert {job.job_id: (job.state, job.exit_status) for job in jobs if job.job_id in states} == states
    assert by_name(client.list_jobs(names=["bad"])).keys() == {"bad"}
    assert client.list_jobs(names=["no-such-name"]) == ()


def test_the_log_of_slurm_lies_beside_the_script(cluster: SlurmCluster, tmp_path: Path) -> None:
    client = make_client(cluster)
    job_id = submit(client, tmp_path, "echo hello")
    wait_for(client, lambda jobs: any(job.job_id == job_id and job.state == "COMPLETED" for job in jobs))
    assert [path.read_text() for path in tmp_path.glob(f"{job_id}_*.out")] == ["hello\n"]


def test_text_and_json_say_the_same(cluster: SlurmCluster, tmp_path: Path) -> None:
    client = make_client(cluster)
    submit(client, tmp_path, "true", name="done")
    submit(client, tmp_path, "exit 3", name="failed")
    submit(client, tmp_path, "sleep 600", name="held", more=["--hold"])
    submit(client, tmp_path, "sleep 600", name="tasks", more=["--array=1-3,7,9-40%2"])
    ends = {"done": "COMPLETED", "failed": "FAILED"}

    def is_quiet(jobs: tuple[SlurmJob, ...]) -> bool:
        ended = {job.name: job.state for job in jobs if job.name in ends}
        return ended == ends and sum(job.name == "tasks" and job.state == "RUNNING" for job in jobs) == 2

    wait_for(client, is_quiet)
    names = frozenset({"done", "failed", "held", "tasks"})
    text, found = client.list_by_text(names), client.list_by_json(names)
    assert text == found
    waiting = next(job for job in text if job.name == "tasks" and job.state == "PENDING")
    assert waiting.task_ids == (3, 7, *range(9, 41))
    assert waiting.reason == "JobArrayTaskLimit"


def test_a_large_pending_array_is_whole_in_both_forms(cluster: SlurmCluster, tmp_path: Path) -> None:
    client = make_client(cluster)
    tasks = ",".join(str(number) for number in range(0, 1000, 3))
    submit(client, tmp_path, "true", name="wide", more=[f"--array={tasks}", "--hold"])
    names = frozenset({"wide"})
    (job,) = client.list_by_text(names)
    assert job.task_ids == tuple(range(0, 1000, 3))
    assert client.list_by_json(names) == (job,)


def test_cancelling_needs_the_name_to_agree(cluster: SlurmCluster, tmp_path: Path) -> None:
    client = make_client(cluster)
    job_id = submit(client, tmp_path, "sleep 600", name="mine", more=["--hold"])
    client.cancel([job_id], name="someone-elses")
    assert by_name(client.list_jobs(names=["mine"]))["mine"].state == "PENDING"
    client.cancel([job_id], name="mine")
    wait_for(client, lambda jobs: all(job.state == "CANCELLED" for job in jobs if job.name == "mine"))
    client.cancel([job_id], name="mine")
    client.cancel([job_id, "987654"])
    other = submit(client, tmp_path, "sleep 600", name="mine", more=["--hold"])
    client.cancel([job_id, other], name="mine")
    wait_for(client, lambda jobs: all(job.state == "CANCELLED" for job in jobs if job.name == "mine"))


def test_tasks_are_cancelled_one_by_one(cluster: SlurmCluster, tmp_path: Path) -> None:
    client = make_client(cluster)
    job_id = submit(client, tmp_path, "sleep 600", name="some", more=["--array=0-5", "--hold"])
    client.cancel([f"{job_id}_1", f"{job_id}_4"])
    jobs = wait_for(client, lambda jobs: sum(len(j.task_ids) for j in jobs if j.name == "some") == 4)
    assert {task for job in jobs if job.name == "some" for task in job.task_ids} == {0, 2, 3, 5}


def test_a_requeued_job_counts_its_restarts(cluster: SlurmCluster, tmp_path: Path) -> None:
    client = make_client(cluster)
    job_id = submit(client, tmp_path, "sleep 600", name="again")
    wait_for(client, lambda jobs: any(job.name == "again" and job.state == "RUNNING" for job in jobs))
    client.requeue(job_id)
    jobs = wait_for(client, lambda jobs: any(job.name == "again" and job.state == "PENDING" for job in jobs))
    assert by_name(jobs)["again"].restarts == 1


def test_one_task_of_an_array_is_cancelled_and_those_that_wait_with_it_are_not(
    make_cluster: Callable[[Shape], SlurmCluster], tmp_path: Path
) -> None:
    client = make_client(make_cluster(Shape(nodes=1, cpus=2, gpus=0)))
    first = submit(client, tmp_path, "sleep 600", name="many", more=["--array=0-9", "--hold"])
    client.cancel([f"{first}_5"], name="many")
    client.cancel([f"{first}_6"], name="another")
    wait_for(client, lambda jobs: {task for job in jobs for task in job.task_ids} == {0, 1, 2, 3, 4, 6, 7, 8, 9})


def test_a_job_waits_for_the_array_before_it(cluster: SlurmCluster, tmp_path: Path) -> None:
    client = make_client(cluster)
    first = submit(client, tmp_path, "sleep 600", name="w0", more=["--array=0-1", "--hold"])
    submit(client, tmp_path, "true", name="w1", more=[render_after(first)])
    assert by_name(client.list_jobs(names=["w1"]))["w1"].reason == "Dependency"
    client.cancel([first])
    wait_for(client, lambda jobs: by_name(jobs)["w1"].state == "COMPLETED")


def test_secrets_arrive_by_name_and_nothing_else_comes_along(cluster: SlurmCluster, tmp_path: Path) -> None:
    value = 'it\'s, "a" $(value)\nof two lines'
    client = make_client(cluster, more={"HF_TOKEN": value, "OTHER": "no"})
    options = render_options(SMALL, SITE, job_name="env", output="%A.out", export=("PATH", "HF_TOKEN"))
    script = tmp_path / "job.sbatch"
    script.write_text('#!/bin/sh\nprintf \'%s|%s|%s\' "$HF_TOKEN" "${OTHER:-unset}" "$1" > said\nenv -0 > names\n')
    client.submit(options, script, ["$(touch broken); 'x"])
    wait_for(client, lambda jobs: by_name(jobs).get("env") is not None and by_name(jobs)["env"].state == "COMPLETED")
    assert (tmp_path / "said").read_text() == f"{value}|unset|$(touch broken); 'x"
    assert not (tmp_path / "broken").exists()
    names = {pair.partition("=")[0] for pair in (tmp_path / "names").read_text().split("\0") if pair}
    # Not those of a login on the node either: Slurm starts one for jobs that get variables by name, each time.
    others = {name for name in names if not name.startswith(("SLURM_", "SLURMD_"))}
    assert others <= {"PATH", "HF_TOKEN", "ENVIRONMENT", "TMPDIR", "PWD", "OLDPWD", "HOSTNAME", "SHLVL", "_"}


@pytest.mark.parametrize(
    ("site", "more", "said"),
    [
        ({"partition": "nowhere"}, [], "slurm.partition"),
        ({}, ["--array=0-1001"], "slurm.max_array_size"),
        ({"exclude": ("n99",)}, [], "slurm.exclude"),
        ({"constraint": "gpu&fast"}, [], "slurm.constraint"),
        ({"extra": ("--no-such-option=1",)}, [], "slurm.extra"),
        ({"extra": ("--gres=nothing:1",)}, [], "gpus_per_node"),
    ],
)
def test_a_refusal_keeps_slurms_words_and_says_what_to_do(
    cluster: SlurmCluster, tmp_path: Path, site: dict[str, Any], more: list[str], said: str
) -> None:
    with pytest.raises(SlurmRefused, match="sbatch: ") as caught:
        submit(make_client(cluster), tmp_path, "true", more=more, **site)
    assert said in str(caught.value.hint)


def test_a_job_over_the_partitions_limits_is_refused_where_the_site_enforces_them(
    make_cluster: Callable[[Shape], SlurmCluster], tmp_path: Path
) -> None:
    strict = make_cluster(Shape(nodes=1, extra=("EnforcePartLimits=ALL",)))
    client = make_client(strict)
    assert client.read_limits().refuses_impossible
    with pytest.raises(SlurmRefused, match="limit") as caught:
        submit(client, tmp_path, "true", partition="short", more=["--time=10:00:00"])
    assert "walltime" in str(caught.value.hint)


def test_the_limits_of_the_cluster_are_read(cluster: SlurmCluster) -> None:
    limits = make_client(cluster).read_limits()
    assert (limits.cluster, limits.max_array_size, limits.max_job_count) == ("nexatest", 1001, 50_000)
    assert (limits.min_job_age_s, limits.kill_wait_s) == (300, 3)
    assert not limits.has_accounting
    assert not limits.refuses_impossible


def test_no_accounting_is_not_no_jobs(cluster: SlurmCluster) -> None:
    assert make_client(cluster).account(["1"]) is None


def test_lists_of_nodes_are_expanded(cluster: SlurmCluster) -> None:
    assert make_client(cluster).expand_hosts("n[1-3,07],gpu-a") == ("n1", "n2", "n3", "n07", "gpu-a")


def test_a_controller_that_is_down_is_no_answer(cluster: SlurmCluster, tmp_path: Path) -> None:
    client = make_client(cluster, timeout_s=1.0)
    cluster.stop_controller()
    with pytest.raises(SlurmUnreachable, match="no answer within 1 s"):
        client.list_jobs()
    with pytest.raises(SlurmUnreachable):
        submit(client, tmp_path, "true", name="lost")
    with pytest.raises(SlurmUnreachable):
        client.cancel(["1"])
    cluster.start_controller()
    assert make_client(cluster).list_jobs(names=["lost"]) == ()


def test_an_impatient_slurm_says_itself_that_nobody_answers(cluster: SlurmCluster) -> None:
    client = make_client(cluster, more=cluster.impatient)
    cluster.stop_controller()
    with pytest.raises(SlurmUnreachable, match="squeue: "):
        client.list_jobs()


def test_a_cluster_that_is_not_set_up_is_named(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"]}
    client = SlurmClient(SystemRunner(), environment=environment, clock=SystemClock())
    with pytest.raises(SlurmMissing, match="configuration source") as caught:
        client.list_jobs()
    assert "SLURM_CONF" in str(caught.value.hint)
    wrong = {**environment, "SLURM_CONF": str(tmp_path / "slurm.conf")}
    with pytest.raises(SlurmMissing, match="no such file"):
        SlurmClient(SystemRunner(), environment=wrong, clock=SystemClock()).list_jobs()


def test_settings_for_people_change_nothing(cluster: SlurmCluster, tmp_path: Path) -> None:
    settings = {
        "SLURM_JOB_ID": "17",
        "SLURM_MEM_PER_NODE": "1",
        "SQUEUE_FORMAT": "%i",
        "SQUEUE_STATES": "RUNNING",
        "SBATCH_WAIT": "1",
        "SBATCH_ARRAY_INX": "0-5",
    }
    client = make_client(cluster, more=settings)
    job_id = submit(client, tmp_path, "true", name="plain", more=["--hold"])
    (job,) = client.list_jobs(names=["plain"])
    assert (job.job_id, job.task_ids, job.state) == (job_id, (), "PENDING")


def test_a_release_whose_text_cannot_be_read_is_asked_for_json(cluster: SlurmCluster, tmp_path: Path) -> None:
    client = make_client(cluster)
    submit(client, tmp_path, "true", name="one", more=["--hold"])
    said = SystemRunner().run(["squeue", "--json"], timeout_s=60, env={**os.environ, **cluster.environment})
    runner = FakeRunner().answer(["squeue"], Completed(1, stderr="squeue: error: Invalid field requested: exit_code"))
    runner.answer(["squeue", "--me", "--states=all", "--json"], said)
    other = SlurmClient(runner, environment={}, clock=SystemClock())
    assert other.list_jobs(names=["one"]) == client.list_jobs(names=["one"])
