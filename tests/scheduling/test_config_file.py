"""A run's program finds its resolved config, whenever its folder was made and whatever became of it since."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nexa_contracts.errors import ConfigError, StorageError
from nexa_infra.operations.context import Context, open_context
from nexa_infra.operations.launch import launch_sweep, load_run_config
from nexa_infra.scheduling.config_file import provide_config
from nexa_infra.scheduling.entry import Entry, read_entry
from nexa_infra.storage.manifests import read_run_manifest

SWEEP = """\
run:
  command: [python3, work.py]
  resources: {memory: 64MiB}
  description: "naïve\\nlines"
axes:
  params.x: {values: [1.0e-05, 3]}
"""


@pytest.fixture
def context(tmp_path: Path, state_dir: Path) -> Context:
    root = tmp_path / "project"
    root.mkdir()
    (root / "nexa.yaml").write_text("{}")
    (root / "sweep.yaml").write_text(SWEEP)
    return open_context(root)


def plan(context: Context) -> Entry:
    planned = launch_sweep(context.project.root / "sweep.yaml", submit=False, context=context)
    return read_entry(context.project.spec(planned.submission), 0)


def test_the_config_is_what_the_manifest_recorded(context: Context) -> None:
    entry = plan(context)
    assert not entry.run_dir.path.exists()
    provide_config(entry)
    manifest = read_run_manifest(context.project, entry.run_id)
    assert json.loads(entry.run_dir.config.read_text()) == manifest.config.model_dump(mode="json")
    assert load_run_config(entry.run_dir.config, ()) == manifest.config


def test_a_config_that_stands_is_left_as_it_is(context: Context) -> None:
    entry = plan(context)
    entry.run_dir.path.mkdir()
    entry.run_dir.config.write_text("{}")
    provide_config(entry)
    assert entry.run_dir.config.read_text() == "{}"


def test_the_config_of_a_trial_whose_point_is_chosen_late_is_not_that_of_its_manifest(context: Context) -> None:
    entry = replace(plan(context), study=context.project.root / "study.journal", point={})
    provide_config(entry)
    assert not entry.run_dir.config.exists()


def test_a_run_without_a_manifest_gets_no_config(context: Context) -> None:
    entry = plan(context)
    context.project.manifest(entry.run_id).unlink()
    provide_config(entry)
    assert not entry.run_dir.config.exists()


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_damaged_manifest_is_named(context: Context, text: str) -> None:
    entry = plan(context)
    context.project.manifest(entry.run_id).write_text(text)
    with pytest.raises(ConfigError, match=rf"{entry.run_id}\.json: not the manifest of a run"):
        provide_config(entry)


def test_a_manifest_that_cannot_be_read_is_named(context: Context) -> None:
    entry = plan(context)
    context.project.manifest(entry.run_id).unlink()
    context.project.manifest(entry.run_id).mkdir()
    with pytest.raises(StorageError, match="cannot be read: Is a directory"):
        provide_config(entry)


def test_a_run_that_has_not_started_is_launched_again_from_its_manifest(context: Context) -> None:
    entry = plan(context)
    path = context.project.manifest(entry.run_id)
    assert load_run_config(path, ()) == read_run_manifest(context.project, entry.run_id).config
    path.write_text(json.dumps({"run_id": "x", "config": {"comand": ["true"]}}))
    with pytest.raises(ConfigError, match=r"comand: .*did you mean command"):
        load_run_config(path, ())
