"""What ended runs left whole on scratch is promoted when durable can take it, and nothing else is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from nexa_infra.operations.context import Context, open_context
from nexa_infra.operations.recover import find_unpromoted, recover_artifacts
from nexa_infra.storage.artifacts import find_artifact
from nexa_infra.storage.layout import checkpoint_name
from nexa_infra.storage.manifests import record_manifest, record_outcome
from nexa_infra.storage.seal import seal_folder, verify_seal
from nexa_infra.testing.clock import FakeClock
from tests.storage.artifacts_made import save_checkpoint
from tests.storage.manifests_made import make_manifest, make_outcome, run_id_of

RUN_ID = run_id_of(0)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    context = open_context(tmp_path, clock=FakeClock(), environment=dict(os.environ))
    context.require_tiers()
    record_manifest(context.project, make_manifest())
    context.project.config(RUN_ID).parent.mkdir(parents=True)
    context.project.config(RUN_ID).write_text(json.dumps({"checkpoints": {"promote_every_steps": 10}}))
    return context


def end(context: Context) -> None:
    record_outcome(context.project, make_outcome())


def save_final(context: Context, *, is_sealed: bool = True) -> Path:
    folder = context.tiers.final_temp(RUN_ID)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"m" * 1000)
    if is_sealed:
        seal_folder(folder, kind="model", run_id=RUN_ID, step=20, now=context.clock.now())
    return folder


def test_the_model_and_the_checkpoints_to_be_kept_are_promoted_and_no_other(context: Context) -> None:
    save_final(context)
    for step in (5, 10, 20):
        save_checkpoint(context.tiers, step, run_id=RUN_ID)
    end(context)
    names = {RUN_ID, checkpoint_name(RUN_ID, 10), checkpoint_name(RUN_ID, 20)}
    assert {label.name for _, label in find_unpromoted(context)} == names
    recovered = recover_artifacts(context)
    assert {artifact.name for artifact in recovered.promoted} == names
    assert recovered.failed == ()
    for name in names:
        verify_seal(context.tiers.checkpoint(name))
        assert find_artifact(context.tiers, name) is not None
    assert (context.tiers.durable_manifests / context.project.outcome(RUN_ID).name).exists()
    assert recover_artifacts(context).promoted == ()


def test_a_run_that_goes_on_is_left_to_itself(context: Context) -> None:
    save_final(context)
    assert list(find_unpromoted(context)) == []
    assert recover_artifacts(context).promoted == ()


def test_what_was_never_whole_is_left_where_it_is(context: Context) -> None:
    save_final(context, is_sealed=False)
    save_checkpoint(context.tiers, 10, run_id=RUN_ID, sealed=False)
    end(context)
    assert recover_artifacts(context).promoted == ()


def test_what_was_damaged_since_is_named_and_the_rest_is_promoted(context: Context) -> None:
    folder = save_final(context)
    save_checkpoint(context.tiers, 10, run_id=RUN_ID)
    end(context)
    (folder / "model.safetensors").write_bytes(b"n" * 1000)
    recovered = recover_artifacts(context)
    assert [artifact.name for artifact in recovered.promoted] == [checkpoint_name(RUN_ID, 10)]
    (line,) = recovered.failed
    assert line.startswith(f"{RUN_ID}: ")
    assert "model.safetensors" in line
    assert not context.tiers.checkpoint(RUN_ID).exists()
