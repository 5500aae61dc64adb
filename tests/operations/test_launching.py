"""A launch is judged before it is written, and what was written is what runs later."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from nexa_contracts.dataset import SourceProvenance
from nexa_contracts.errors import ConfigError, EvidenceMissing, StorageError
from nexa_contracts.job import JobSpec
from nexa_contracts.run import RunOutcome
from nexa_contracts.states import JobState
from nexa_infra.operations.context import Context, open_context
from nexa_infra.operations.launch import launch_sweep, launch_training_job, resume_sweep
from nexa_infra.operations.sweep_lock import hold_sweep
from nexa_infra.scheduling.config_file import provide_config
from nexa_infra.scheduling.entry import read_entry
from nexa_infra.storage.manifests import read_run_manifest, read_sweep_manifest, record_outcome
from nexa_infra.storage.registration import DatasetDescription, register_dataset
from nexa_infra.testing.clock import FakeClock

RUN = """\
command: [python3, work.py]
resources: {memory: 64MiB}
"""
SWEEP = f"""\
run:
{RUN.replace("command", "  command").replace("resources", "  resources")}
axes:
  params.x: {{values: [1, 2]}}
"""
TRAINING = """\
run:
  model: {scratch: {}}
  data: {dataset: rows}
  training: {max_steps: 1}
axes:
  training.seed: {values: [1, 2]}
"""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def context(tmp_path: Path, state_dir: Path, clock: FakeClock) -> Context:
    root = tmp_path / "project"
    root.mkdir()
    for name, text in (("nexa.yaml", "{}"), ("run.yaml", RUN), ("sweep.yaml", SWEEP), ("work.py", "print(1)\n")):
        (root / name).write_text(text)
    return open_context(root, clock=clock, environment=dict(os.environ))


def register(context: Context, text: str) -> None:
    path = context.project.root / "rows.jsonl"
    path.write_text(json.dumps({"text": text}) + "\n")
    provenance = SourceProvenance(origin="a test", collected_at=context.clock.now(), collected_by="a test")
    description = DatasetDescription(name="rows", provenance=provenance)
    register_dataset(context.require_tiers(), [path], description, clock=context.clock)


def fail(context: Context, run_id: str) -> None:
    manifest = read_run_manifest(context.project, run_id)
    record_outcome(
        context.project,
        RunOutcome(
            run_id=run_id, sweep_id=manifest.sweep_id, index=manifest.index, state=JobState.FAILED,
            ended_at=context.clock.now(), attempts=1, seconds=1.0,
        ),
    )  # fmt: skip


def test_a_job_too_large_for_this_machine_leaves_nothing_behind(context: Context) -> None:
    path = context.project.root / "run.yaml"
    path.write_text(RUN.replace("{memory", "{cpus: 4000, memory"))
    with pytest.raises(ConfigError, match="asks for 4000 cores"):
        launch_training_job(path, context=context)
    assert not context.project.runs.exists()


def test_of_a_sweep_every_size_is_judged_before_anything_is_written(context: Context) -> None:
    path = context.project.root / "sweep.yaml"
    path.write_text(SWEEP.partition("axes:")[0] + "axes: {resources.cpus: {values: [1, 4000]}}\n")
    with pytest.raises(ConfigError, match="asks for 4000 cores"):
        launch_sweep(path, context=context)
    assert not context.project.runs.exists()


def test_what_was_planned_runs_the_code_it_was_planned_with(context: Context) -> None:
    root = context.project.root
    planned = launch_sweep(root / "sweep.yaml", submit=False, context=context)
    manifest = read_run_manifest(context.project, planned.run_ids[0])
    (root / "work.py").write_text("print(2)\n")
    resumed = resume_sweep(planned.submission, dry_run=True, context=context)
    assert resumed is not None
    assert resumed.run_ids == planned.run_ids
    spec = JobSpec.from_json(resumed.plan.files[0].text, source="spec.json")
    assert {Path(spec.entry(index).cwd).name for index in (0, 1)} == {manifest.code.snapshot}


def test_a_recorded_snapshot_is_described_by_its_own_files_even_in_a_dry_run(context: Context) -> None:
    root = context.project.root
    planned = launch_sweep(root / "sweep.yaml", submit=False, context=context)
    code = read_run_manifest(context.project, planned.run_ids[0]).code
    (root / "more.py").write_text("print(3)\n")
    shown = launch_training_job(root / "run.yaml", snapshot=code.snapshot, dry_run=True, context=context)
    assert code.snapshot in shown.plan.files[0].text
    with pytest.raises(EvidenceMissing, match="is not on durable"):
        launch_training_job(root / "run.yaml", snapshot="0" * 64, dry_run=True, context=context)


def test_a_run_keeps_the_version_of_its_dataset_when_a_newer_one_is_registered(context: Context) -> None:
    root = context.project.root
    register(context, "one")
    (root / "sweep.yaml").write_text(TRAINING)
    planned = launch_sweep(root / "sweep.yaml", submit=False, context=context)
    register(context, "two")
    manifest = read_run_manifest(context.project, planned.run_ids[0])
    assert [ref.label for ref in manifest.datasets] == ["rows_v1"]
    assert manifest.config.data is not None
    assert manifest.config.data.dataset == "rows_v1"
    spec = read_entry(context.project.spec(planned.submission), 0)
    provide_config(spec)
    assert json.loads(context.project.config(planned.run_ids[0]).read_text()) == manifest.config.model_dump(mode="json")
    base = read_sweep_manifest(context.project, planned.submission).base_config
    assert base.data is not None
    assert base.data.dataset == "rows_v1"  # what the sweep lacks later trains on the same rows


@pytest.mark.parametrize("seconds", [-3600.0, 0.0, 3600.0])
def test_the_run_of_a_resumed_member_is_its_newest_whatever_the_clock_says(
    context: Context, clock: FakeClock, seconds: float
) -> None:
    planned = launch_sweep(context.project.root / "sweep.yaml", submit=False, context=context)
    fail(context, planned.run_ids[1])
    clock.jump(seconds)
    resumed = resume_sweep(planned.submission, dry_run=True, context=context)
    assert resumed is not None
    assert resumed.run_ids[0] == planned.run_ids[0]
    assert resumed.run_ids[1] > planned.run_ids[1]


def test_a_sweep_is_resumed_by_one_process_at_a_time(context: Context) -> None:
    planned = launch_sweep(context.project.root / "sweep.yaml", submit=False, context=context)
    with (
        hold_sweep(context, planned.submission),
        pytest.raises(
            StorageError, match=rf"its launch goes on \(pid {os.getpid()} on {os.uname().nodename}\)"
        ) as caught,
        hold_sweep(context, planned.submission),
    ):
        pass
    assert caught.value.hint == f"wait for it or end it, and then: nexa sweep --resume {planned.submission}"


def test_a_sweep_that_is_being_launched_is_not_resumed_meanwhile(context: Context, clock: FakeClock) -> None:
    refused: list[str] = []

    class ResumingClock(FakeClock):
        def now(self) -> datetime:
            for manifest in () if refused else context.project.manifests.glob("sweep_*.json"):
                # Its members have no manifests yet: to whoever resumed it now, all of them would be missing.
                with pytest.raises(StorageError, match="its launch goes on"), hold_sweep(context, manifest.stem):
                    pass
                refused.append(manifest.stem)
            return clock.now()

    path = context.project.root / "sweep.yaml"
    planned = launch_sweep(path, submit=False, context=replace(context, clock=ResumingClock()))
    assert refused == [planned.submission]
