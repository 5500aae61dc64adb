"""What a launch works out about the nodes it will get, and what a quarantine does to it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from nexa_contracts.config import parse_override
from nexa_contracts.errors import ConfigError
from nexa_contracts.health import HealthPlan
from nexa_contracts.job import JobSpec
from nexa_infra.operations.context import Context, open_context
from nexa_infra.operations.launch import launch_training_job
from nexa_infra.operations.node_health import keep_out, open_ledger
from nexa_infra.operations.submitting import Launched
from nexa_infra.testing.slurm import FakeSlurm
from tests.cli.test_slurm_commands import OnlySlurm

RUN = "command: [python3, -c, pass]\nresources: {nodes: 2, cpus: 3, memory: 64MiB}\n"


class Site:
    """A project on a cluster of four nodes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.slurm = OnlySlurm()
        self.slurm.nodes = ("n1", "n2", "n3", "n4")
        (root / "run.yaml").write_text(RUN)
        self.write("{}")

    def write(self, site: str) -> None:
        (self.root / "nexa.yaml").write_text(site)

    @property
    def context(self) -> Context:
        return open_context(self.root, runner=self.slurm, environment=dict(os.environ))

    def plan(self, *sets: str, backend: str = "slurm") -> Launched:
        overrides = [parse_override(text) for text in sets]
        path = self.root / "run.yaml"
        return launch_training_job(path, overrides=overrides, backend=backend, dry_run=True, context=self.context)

    def health(self, *sets: str, backend: str = "slurm") -> HealthPlan | None:
        """Return what `spec.json` says of a run's nodes."""
        spec = next(file for file in self.plan(*sets, backend=backend).plan.files if file.path == "spec.json")
        return JobSpec.from_json(spec.text, source="spec.json").entry(0).health

    def quarantine(self, *nodes: str) -> None:
        for node in nodes:
            open_ledger(self.context).add(node, reason="fan is loud", now=self.context.clock.now())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_what_nodes_are_checked_for_is_what_the_run_asks_and_stands_in_the_spec(site: Site) -> None:
    found = site.health()
    assert found is not None
    assert found.request is not None
    asked = found.request
    assert (asked.gpus, asked.cpus, asked.memory_bytes) == (0, 3, 64 * 2**20)
    assert asked.code is not None
    assert Path(asked.code).parent == site.context.project.runs / "snapshots"
    assert asked.skip == ("gpu_diagnosis",)
    assert found.ledger == str(site.context.tiers.health("default") / "ledger.jsonl")
    assert (found.moves, found.all_reduce, found.join_s) == (3, True, 60.0)


def test_the_site_file_says_what_is_accepted_left_out_and_mounted(site: Site) -> None:
    site.write(
        "health: {cluster: lab, accept_unknown: [gpu_xid], skip: [load], mounts: [/data], all_reduce: false}\n"
        "slurm: {requeue: false}\n"
    )
    found = site.health("resources.gpus_per_node=2")
    assert found is not None
    assert found.request is not None
    assert found.request.accept_unknown == ("gpu_xid",)
    assert found.request.skip == ("load", "gpu_diagnosis")
    assert ("/data", True) in [(folder.path, folder.must_mount) for folder in found.request.folders]
    assert (found.moves, found.all_reduce, found.join_s) == (0, False, 60.0)
    assert "/health/lab/" in str(found.ledger)


def test_an_all_reduce_has_the_time_to_load_torch(site: Site) -> None:
    found = site.health("resources.gpus_per_node=2")
    assert found is not None
    assert found.join_s == 180.0


@pytest.mark.parametrize(
    ("sets", "backend", "is_checked"),
    [
        ((), "slurm", True),
        (("check_nodes=false",), "slurm", False),
        (("resources.nodes=1",), "slurm", False),
        (("resources.nodes=1",), "local", False),
        (("resources.nodes=1",), "ddp", True),
        (("resources.nodes=1", "check_nodes=false"), "ddp", False),
    ],
)
def test_what_torchrun_starts_is_checked_unless_the_run_says_not(
    site: Site, sets: tuple[str, ...], backend: str, is_checked: bool
) -> None:
    found = site.health(*sets, backend=backend)
    assert (found is not None and found.request is not None) == is_checked
    # On a cluster a failed node is written down all the same; on one machine there is nothing to keep it out of.
    assert (found is not None and found.ledger is not None) == (backend == "slurm")


def test_the_site_may_turn_the_check_off_and_a_run_on_again(site: Site) -> None:
    site.write("health: {before_start: false}\n")
    off, on = site.health(), site.health("check_nodes=true")
    assert off is not None
    assert off.request is None
    assert on is not None
    assert on.request is not None


def test_a_gpu_that_is_shared_may_have_others_on_it(site: Site) -> None:
    (site.root / "run.yaml").write_text(RUN.replace("nodes: 2", "gpus_per_node: 1, share_gpus: true"))
    found = site.health(backend="ddp")
    assert found is not None
    assert found.request is not None
    assert "gpu_leftovers" in found.request.skip


def test_spares_are_asked_for_held_and_paid(site: Site) -> None:
    launched = site.plan("resources.spares=1")
    assert "--nodes=3" in launched.plan.commands[0]
    assert launched.estimate.units_per_run == 9
    spec = json.loads(launched.plan.files[0].text)
    assert {"--nodes=3", "--nodes=2", "--spares=1"} <= set(spec["common"]["command"])


def test_nodes_and_spares_must_fit_together(site: Site) -> None:
    overrides = [parse_override(text) for text in ("resources.nodes=4", "resources.spares=1")]
    with pytest.raises(ConfigError, match=r"resources\.nodes: found 4 and 1 spare; allowed: at most 4 of this size"):
        launch_training_job(site.root / "run.yaml", overrides=overrides, backend="slurm", context=site.context)


@pytest.mark.parametrize(
    ("sets", "backend", "said"),
    [
        (("check_nodes=false",), "slurm", "found 1; allowed without a check of the nodes: 0"),
        (("launcher=python", "resources.nodes=1"), "slurm", "found 1; allowed with the launcher python: 0"),
        (("resources.nodes=1",), "ddp", "found 1; allowed: 0, because the local backend is one machine"),
    ],
)
def test_spares_that_nothing_would_call_for_are_refused(
    site: Site, sets: tuple[str, ...], backend: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=r"resources\.spares: ") as caught:
        site.plan("resources.spares=1", *sets, backend=backend)
    assert said in caught.value.message


def test_nodes_under_quarantine_are_left_out_once_and_those_that_are_gone_not_named(site: Site) -> None:
    site.write("slurm: {exclude: [n4]}\n")
    site.quarantine("n2", "n4", "sold")
    launched = site.plan()
    assert "--exclude=n4,n2" in launched.plan.commands[0]
    assert [each.node for each in launched.kept_out] == ["n2", "n4"]


def test_a_cluster_that_does_not_answer_leaves_all_of_them_out(site: Site) -> None:
    site.quarantine("n2", "sold")
    site.slurm.is_down = True
    context, kept_out = keep_out(site.context)
    assert context.site.slurm.exclude == ("n2", "sold")
    assert len(kept_out) == 2


def test_a_job_that_could_never_start_for_its_quarantines_is_refused_before_anything_is_written(site: Site) -> None:
    site.quarantine("n1", "n2", "n3")
    with pytest.raises(ConfigError) as caught:
        launch_training_job(site.root / "run.yaml", backend="slurm", context=site.context)
    assert caught.value.message == (
        "resources.nodes: found 2; allowed: at most 1 of this size in partition main; left out: n1, n2, n3 "
        "(slurm.exclude, or `nexa health quarantine list`)"
    )
    assert site.slurm.jobs == {}
    assert not list(site.root.glob("runs/run_*"))


def test_without_a_quarantine_nothing_is_asked(site: Site) -> None:
    before = FakeSlurm.count(site.slurm, "sinfo")
    assert keep_out(site.context)[1] == ()
    assert site.slurm.count("sinfo") == before
