from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_contracts.errors import ConfigError
from nexa_infra.storage.layout import Project, Tiers, checkpoint_name, find_root
from nexa_infra.storage.run_dir import RunDir

TIERS = Tiers(Path("/s"), Path("/d"), Path("/h"))
PROJECT = Project(Path("/p"))


def test_the_site_file_marks_the_root_before_git_does(tmp_path: Path) -> None:
    inner = tmp_path / "project" / "package" / "deep"
    inner.mkdir(parents=True)
    (tmp_path / "project" / "package" / ".git").mkdir()
    assert find_root(inner) == tmp_path / "project" / "package"
    (tmp_path / "project" / "nexa.yaml").write_text("")
    assert find_root(inner) == tmp_path / "project"


def test_paths_are_spelt_as_the_architecture_page_says() -> None:
    assert TIERS.checkpoints_temp("run_a") == Path("/s/checkpoints_temp/run_a")
    assert TIERS.logs_temp("run_a") == Path("/s/logs_temp/run_a")
    assert TIERS.checkpoint(checkpoint_name("run_a", 40)) == Path("/d/checkpoints/run_a_step_40")
    assert TIERS.artifact_manifest("run_a") == Path("/d/manifests/artifact_run_a.json")
    assert TIERS.dataset_registry == Path("/d/manifests/dataset_registry.yaml")
    assert TIERS.reports == Path("/d/evals/reports")
    assert PROJECT.manifest("run_a") == Path("/p/runs/manifests/run_a.json")
    assert PROJECT.outcome("run_a") == Path("/p/runs/manifests/outcome_run_a.json")
    assert PROJECT.cost("run_a") == Path("/p/runs/manifests/cost_run_a.json")
    assert PROJECT.attempt("run_a", 2) == Path("/p/runs/run_a/attempts/2.json")
    assert PROJECT.result("run_a", 2) == Path("/p/runs/run_a/attempts/2.result.json")
    assert PROJECT.log("run_a", 2) == Path("/p/runs/run_a/logs/attempt-2.log")


def test_a_job_and_its_project_spell_a_runs_files_alike() -> None:
    inside = RunDir(PROJECT.run("run_a"))
    assert inside.metrics == PROJECT.metrics("run_a")
    assert inside.heartbeat == PROJECT.heartbeat("run_a")
    assert inside.config == PROJECT.config("run_a")
    assert inside.attempts == PROJECT.attempts("run_a")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc/passwd", "a\0b"])
def test_a_name_cannot_leave_its_folder(name: str) -> None:
    for spell in (TIERS.checkpoints_temp, TIERS.checkpoint, TIERS.snapshot, PROJECT.run, TIERS.intent):
        with pytest.raises(ConfigError, match="cannot name a file"):
            spell(name)


@given(st.text(max_size=40))
def test_every_name_that_is_taken_stays_in_its_folder(name: str) -> None:
    try:
        path = TIERS.checkpoints_temp(name)
    except ConfigError:
        return
    assert path.parent == Path("/s/checkpoints_temp")


def test_tiers_of_a_job_come_from_its_environment() -> None:
    environment = {"NEXA_SCRATCH_DIR": "/s", "NEXA_DURABLE_DIR": "/d", "NEXA_SHARED_DIR": "/h"}
    assert Tiers.from_environment(environment) == TIERS
    with pytest.raises(ConfigError, match="NEXA_DURABLE_DIR, NEXA_SHARED_DIR not set"):
        Tiers.from_environment({"NEXA_SCRATCH_DIR": "/s", "NEXA_DURABLE_DIR": ""})
