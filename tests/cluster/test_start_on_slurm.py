"""Starts on a real Slurm: nodes are checked and meet first; bad ones are replaced, left out, or named."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nexa_contracts.config import parse_override
from nexa_contracts.errors import ConfigError
from nexa_contracts.run import AttemptRecord, RunOutcome
from nexa_contracts.states import NODE_UNHEALTHY, JobState
from nexa_infra.operations.context import Context
from nexa_infra.operations.launch import launch_training_job
from nexa_infra.operations.node_health import open_ledger
from nexa_infra.storage.manifests import read_attempts, read_outcome, read_run_manifest
from nexa_infra.storage.run_dir import RunDir
from tests.cluster.slurm_cluster import Shape, SlurmCluster
from tests.cluster.sweep_site import SITE, make_backend, make_project, wait_for
from tests.health.health_made import RECORDED

WHERE = """\
import os
folder = os.environ["NEXA_RUN_DIR"] + "/on-" + os.environ["NEXA_ATTEMPT"]
os.makedirs(folder, exist_ok=True)
with open(folder + "/" + os.environ["RANK"], "w") as place:
    place.write(os.environ["SLURMD_NODENAME"] + " of " + os.environ["WORLD_SIZE"])
"""
"""Leaves for each process a file that says on which node it ran, and of how many."""
RUN = f"""\
name: where
command: [{sys.executable}, where.py]
launcher: torchrun
resources: {{nodes: 2, cpus: 2, memory: 100MiB, walltime: 10m}}
max_retries: 0
"""
SMI = f"""\
#!/bin/sh
case "$*" in
*--query-gpu=*)
    [ "$SLURMD_NODENAME" = n2 ] && errors=3
    sed "s/, 0, \\(.\\), \\[N/, ${{errors:-0}}, \\1, [N/" "{RECORDED}/smi_gpus.csv" ;;
*remapped_rows*) cat "{RECORDED}/smi_rows.csv" ;;
*nvlink*) cat "{RECORDED}/smi_nvlink.txt" ;;
esac
"""
"""Answers as nvidia-smi once did; on n2 the GPUs have had uncorrectable errors."""


class Starts:
    """Launches on a cluster, and what became of them."""

    def __init__(self, cluster: SlurmCluster, root: Path, *, site: str = SITE) -> None:
        self.cluster = cluster
        self.context: Context = make_project(cluster, root, site=site)
        (root / "where.py").write_text(WHERE)
        (root / "where.yaml").write_text(RUN)

    def launch(self, *sets: str, dry_run: bool = False) -> Any:
        return launch_training_job(
            self.context.project.root / "where.yaml",
            overrides=[parse_override(text) for text in sets],
            dry_run=dry_run,
            context=self.context,
        )

    def run(self, *sets: str) -> RunOutcome:
        """Return how a run ended."""
        run_id = self.launch(*sets).submission
        wait_for(self.context.project.outcome(run_id).exists, what=f"outcome of {run_id}")
        return read_outcome(self.context.project, run_id)

    def ask(self, run_id: str) -> None:
        """Ask how a run is, which settles what ended in silence."""
        make_backend(self.cluster, self.context.project.root).run_states([run_id])

    def attempts(self, outcome: RunOutcome) -> Sequence[AttemptRecord]:
        return read_attempts(self.context.project, outcome.run_id)

    def ran_on(self, outcome: RunOutcome, attempt: int = 1) -> list[str]:
        folder = self.context.project.run(outcome.run_id) / f"on-{attempt}"
        return sorted(path.read_text() for path in folder.iterdir()) if folder.exists() else []

    def log(self, outcome: RunOutcome, attempt: int = 1) -> str:
        return (self.context.project.run(outcome.run_id) / "logs" / f"attempt-{attempt}.log").read_text()

    def failures(self) -> list[tuple[str, str]]:
        return [(entry.node, entry.job) for entry in open_ledger(self.context).read()[0] if entry.event == "failure"]


@pytest.fixture
def starts(cluster: SlurmCluster, tmp_path: Path) -> Starts:
    return Starts(cluster, tmp_path / "p")


@pytest.fixture
def full_scratch(cluster: SlurmCluster, tmp_path: Path) -> Iterator[str]:
    """Give n2 a scratch of its own that is full."""
    scratch = str(tmp_path / "p" / "storage" / "scratch")
    Path(scratch).mkdir(parents=True)
    cluster.run_on_node("n2", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", scratch)
    cluster.run_on_node("n2", "sh", "-c", 'head -c 65536 /dev/zero > "$1/full"', "sh", scratch)
    yield scratch
    cluster.run_on_node("n2", "umount", scratch)


def test_a_node_with_a_full_scratch_is_replaced_by_the_spare(starts: Starts, full_scratch: str) -> None:
    outcome = starts.run("resources.spares=1")
    assert outcome.state is JobState.SUCCEEDED, outcome.failure
    assert starts.ran_on(outcome) == ["n1 of 2", "n3 of 2"]
    assert f"training on n1, n3; n2 is left out: disk {full_scratch} fail: 100% full" in starts.log(outcome)
    assert starts.failures() == [("n2", outcome.run_id)]
    # Three nodes of two cores were held.
    assert read_run_manifest(starts.context.project, outcome.run_id).estimate.units_per_run == 6
    again = starts.run("resources.spares=1")
    assert starts.failures() == [("n2", outcome.run_id), ("n2", again.run_id)]
    (kept_out,) = starts.launch(dry_run=True).kept_out
    assert (kept_out.node, kept_out.reason.split(":")[0]) == ("n2", "2 failed jobs")
    assert "n2" not in starts.log(starts.run())


def test_healthy_nodes_start_and_the_spare_leaves(starts: Starts) -> None:
    outcome = starts.run("resources.spares=1")
    assert outcome.state is JobState.SUCCEEDED, outcome.failure
    assert starts.ran_on(outcome) == ["n1 of 2", "n2 of 2"]
    assert "n3 does not join: a spare that was not needed" in starts.log(outcome)
    assert starts.failures() == []


def test_without_a_spare_the_start_fails_with_node_check_and_threshold(
    cluster: SlurmCluster, tmp_path: Path, full_scratch: str
) -> None:
    starts = Starts(cluster, tmp_path / "p", site=f"{SITE}  requeue: false\n")
    outcome = starts.run()
    assert (outcome.state, outcome.attempts) == (JobState.NODE_FAILED, 1)
    assert outcome.failure is not None
    assert outcome.failure.kind == NODE_UNHEALTHY
    assert f"1 of 2 nodes can join; n2: disk {full_scratch} fail: 100% full" in outcome.failure.message
    assert "(full); healthy: answers in 10 s, below 95% full" in outcome.failure.message
    assert starts.ran_on(outcome) == []
    assert starts.failures() == [("n2", outcome.run_id)]


def test_a_job_that_may_be_requeued_starts_without_the_node_that_was_refused(starts: Starts, full_scratch: str) -> None:
    outcome = starts.run()
    assert outcome.state is JobState.SUCCEEDED, outcome.failure
    first, second = starts.attempts(outcome)
    assert (first.state, first.failure and first.failure.kind) == (JobState.NODE_FAILED, NODE_UNHEALTHY)
    assert second.state is JobState.SUCCEEDED
    assert starts.ran_on(outcome, 2) == ["n1 of 2", "n3 of 2"]
    assert full_scratch in (first.failure.message if first.failure else "")


def test_a_gpu_with_errors_keeps_its_node_out(cluster: SlurmCluster, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "nvidia-smi").write_text(SMI)
    (tools / "nvidia-smi").chmod(0o755)
    health = "health: {all_reduce: false, accept_unknown: [gpu_xid]}\n"
    starts = Starts(cluster, tmp_path / "p", site=SITE + health)
    path = f"{tools}:{starts.context.environment['PATH']}"
    starts.context = replace(starts.context, environment={**starts.context.environment, "PATH": path})
    outcome = starts.run("resources.spares=1", "resources.gpus_per_node=1")
    assert outcome.state is JobState.SUCCEEDED, outcome.failure
    assert starts.ran_on(outcome) == ["n1 of 2", "n3 of 2"]
    assert "n2 is left out: gpu_ecc fail: 3 uncorrected" in starts.log(outcome)


def test_a_node_under_quarantine_gets_nothing_and_says_until_when(starts: Starts) -> None:
    now = starts.context.clock.now()
    open_ledger(starts.context).add("n1", reason="fan is loud", now=now)
    open_ledger(starts.context).add("gone", reason="was sold", now=now)
    shown = starts.launch(dry_run=True)
    assert [(each.node, each.reason) for each in shown.kept_out] == [("n1", "fan is loud")]
    assert "--exclude=n1" in shown.plan.commands[0]
    outcome = starts.run()
    assert starts.ran_on(outcome) == ["n2 of 2", "n3 of 2"]


def test_a_quarantine_that_leaves_too_few_nodes_is_said_at_once(starts: Starts) -> None:
    for node in ("n1", "n3"):
        open_ledger(starts.context).add(node, reason="fan is loud", now=starts.context.clock.now())
    with pytest.raises(ConfigError) as caught:
        starts.launch()
    assert caught.value.message == (
        "resources.nodes: found 2; allowed: at most 1 of this size in partition main; left out: n1, n3 "
        "(slurm.exclude, or `nexa health quarantine list`)"
    )
    assert not list(starts.context.project.runs.glob("run_*"))


def test_a_node_that_died_is_written_down(starts: Starts) -> None:
    sleeps = "command=[sh, -c, '[ $NEXA_ATTEMPT = 2 ] || sleep 600']"
    run_id = starts.launch(sleeps, "launcher=python", "resources.nodes=1", "max_retries=1").submission
    begun = RunDir(starts.context.project.run(run_id)).start(1)
    wait_for(begun.exists, what="the first attempt")
    node = json.loads(begun.read_text())["hostname"]
    starts.cluster.kill_node(node)
    wait_for(starts.context.project.outcome(run_id).exists, what="the outcome")
    assert [attempt.state for attempt in read_attempts(starts.context.project, run_id)] == [
        JobState.NODE_FAILED,
        JobState.SUCCEEDED,
    ]
    assert starts.failures() == [(node, run_id)]


WAITS = "mkdir -p $NEXA_RUN_DIR/on-$NEXA_ATTEMPT; echo $SLURMD_NODENAME > $NEXA_RUN_DIR/on-$NEXA_ATTEMPT/$RANK; "
WAITS += "[ $NEXA_ATTEMPT = 2 ] || exec sleep 600"


def lose_second_node(starts: Starts, *sets: str) -> str:
    """Return the run of two nodes of which the second died, with all that it was doing."""
    run_id: str = starts.launch(f"command=[sh, -c, '{WAITS}']", *sets).submission
    second = starts.context.project.run(run_id) / "on-1" / "1"
    wait_for(lambda: second.exists() and second.read_text() == "n2\n", what="its processes")
    starts.cluster.kill_node("n2")
    wait_for(lambda: is_settled(starts, run_id), what="the outcome")
    return run_id


def is_settled(starts: Starts, run_id: str) -> bool:
    starts.ask(run_id)
    return starts.context.project.outcome(run_id).exists()


def test_of_several_nodes_the_one_that_died_is_written_down_and_no_preemption_used_up(starts: Starts) -> None:
    run_id = lose_second_node(starts, "max_retries=1", "max_preemptions=0")
    lost, again = read_attempts(starts.context.project, run_id)
    assert (lost.state, again.state) == (JobState.NODE_FAILED, JobState.SUCCEEDED)
    assert "srun: error: Node failure on n2" in (lost.failure.evidence if lost.failure else ())
    assert starts.failures() == [("n2", run_id)]


def test_a_job_that_ends_with_one_of_its_nodes_has_not_been_cancelled(
    make_cluster: Callable[[Shape], SlurmCluster], tmp_path: Path
) -> None:
    # srun waits for the dead node 2 s longer than KillWait: the entry is killed, and whoever looks records the end.
    cluster = make_cluster(Shape(nodes=2, cpus=2, gpus=0))
    starts = Starts(cluster, tmp_path / "p", site=f"{SITE}  requeue: false\n")
    run_id = lose_second_node(starts, "max_retries=9")
    outcome = read_outcome(starts.context.project, run_id)
    assert (outcome.state, outcome.attempts) == (JobState.NODE_FAILED, 1)
    assert [each.state for each in starts.attempts(outcome)] == [JobState.NODE_FAILED]
    assert starts.failures() == [("n2", run_id)]
