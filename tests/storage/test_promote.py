from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nexa_contracts.errors import AlreadyExists, ConfigError, DigestMismatch, NotFound, StorageError, TierMissing
from nexa_infra.storage.artifacts import find_artifact
from nexa_infra.storage.intents import create_claim
from nexa_infra.storage.layout import SEAL_NAME, Tiers
from nexa_infra.storage.promote import ArtifactLabel, promote_folder
from nexa_infra.storage.recovery import recover_promotions
from nexa_infra.storage.seal import read_seal, verify_seal
from tests.storage.artifacts_made import CLOCK, RUN_ID, hidden, label, make_tiers, save_checkpoint


@pytest.fixture
def tiers(tmp_path: Path) -> Tiers:
    return make_tiers(tmp_path)


def test_a_promoted_folder_is_whole_and_named_by_its_manifest(tiers: Tiers) -> None:
    source = save_checkpoint(tiers, 40)
    manifest = promote_folder(source, label(40), tiers=tiers, clock=CLOCK)
    promoted = tiers.durable / manifest.path
    assert promoted == tiers.checkpoint(f"{RUN_ID}_step_40")
    assert verify_seal(promoted) == read_seal(source)
    assert manifest.seal_sha256 == read_seal(source).digest()
    assert (manifest.file_count, manifest.size_bytes) == (3, 10242 + 100)
    assert find_artifact(tiers, manifest.name) == manifest
    assert hidden(tiers) == []


def test_a_folder_without_a_seal_gets_one_on_durable_only(tiers: Tiers) -> None:
    source = save_checkpoint(tiers, 40, sealed=False)
    promote_folder(source, label(40), tiers=tiers, clock=CLOCK)
    verify_seal(tiers.checkpoint(label(40).name))
    assert not (source / SEAL_NAME).exists()


@pytest.mark.parametrize("sealed", [True, False])
def test_promoting_the_same_again_returns_the_same_manifest(tiers: Tiers, sealed: bool) -> None:
    source = save_checkpoint(tiers, 40, sealed=sealed)
    first = promote_folder(source, label(40), tiers=tiers, clock=CLOCK)
    CLOCK.advance(60)
    assert promote_folder(source, label(40), tiers=tiers, clock=CLOCK) == first
    shutil.rmtree(source)  # rotated away before the answer arrived
    assert promote_folder(source, label(40), tiers=tiers, clock=CLOCK) == first


def test_a_name_never_changes_its_content(tiers: Tiers) -> None:
    first = save_checkpoint(tiers, 40)
    promote_folder(first, label(40), tiers=tiers, clock=CLOCK)
    (first / SEAL_NAME).unlink()
    (first / "model.safetensors").write_bytes(b"other")
    with pytest.raises(AlreadyExists, match=r"model.safetensors is damaged"):
        promote_folder(first, label(40), tiers=tiers, clock=CLOCK)
    verify_seal(tiers.checkpoint(label(40).name))


def test_a_source_that_is_not_what_its_seal_says_stays_invisible(tiers: Tiers) -> None:
    source = save_checkpoint(tiers, 40)
    content = bytearray((source / "model.safetensors").read_bytes())
    content[77] ^= 4
    (source / "model.safetensors").write_bytes(content)
    (source / "unknown").write_bytes(b"")
    with pytest.raises(DigestMismatch, match=r"unknown is unknown, model.safetensors is damaged"):
        promote_folder(source, label(40), tiers=tiers, clock=CLOCK)
    assert list(tiers.checkpoints.iterdir()) == []
    assert hidden(tiers) == []
    assert find_artifact(tiers, label(40).name) is None


def test_a_checkpoint_is_not_promoted_as_another_step(tiers: Tiers) -> None:
    with pytest.raises(DigestMismatch, match=r"is sealed as checkpoint of run_\w+ at step 40"):
        promote_folder(save_checkpoint(tiers, 40), label(50), tiers=tiers, clock=CLOCK)
    assert hidden(tiers) == []


def test_what_was_put_there_by_hand_is_left_alone(tiers: Tiers) -> None:
    target = tiers.checkpoint(label(40).name)
    target.mkdir()
    (target / "notes.txt").write_text("mine")
    with pytest.raises(AlreadyExists, match="was not promoted"):
        promote_folder(save_checkpoint(tiers, 40), label(40), tiers=tiers, clock=CLOCK)
    recover_promotions(tiers, clock=CLOCK)
    assert [path.name for path in target.iterdir()] == ["notes.txt"]
    assert hidden(tiers) == []


@pytest.mark.parametrize("name", ["../out", "a/b", ".hidden", "", "x" * 64])
def test_an_artifact_stays_in_its_folder(tiers: Tiers, name: str) -> None:
    source = save_checkpoint(tiers, 40)
    with pytest.raises(ConfigError, match="artifact name"):
        promote_folder(source, ArtifactLabel(name, "checkpoint", RUN_ID, 40), tiers=tiers, clock=CLOCK)


def test_an_unmounted_durable_is_not_written_to(tiers: Tiers) -> None:
    source = save_checkpoint(tiers, 40)
    tiers.durable.rename(tiers.durable.with_name("elsewhere"))
    tiers.durable.mkdir()
    with pytest.raises(TierMissing, match="not mounted"):
        promote_folder(source, label(40), tiers=tiers, clock=CLOCK)
    assert list(tiers.durable.iterdir()) == []


def test_nothing_and_nowhere_are_not_promoted(tiers: Tiers) -> None:
    with pytest.raises(NotFound, match="no such folder"):
        promote_folder(tiers.scratch / "none", label(40), tiers=tiers, clock=CLOCK)
    empty = tiers.scratch / "empty"
    empty.mkdir()
    with pytest.raises(StorageError, match="holds no file"):
        promote_folder(empty, label(40), tiers=tiers, clock=CLOCK)
    assert hidden(tiers) == []


def test_an_intent_its_owner_left_does_not_block_the_name(tiers: Tiers) -> None:
    source = save_checkpoint(tiers, 40)
    claim = create_claim(tiers, label(40).name, source=source, clock=CLOCK)
    assert claim is not None
    claim.release()
    tiers.incoming(label(40).name, "dead").mkdir()
    promote_folder(source, label(40), tiers=tiers, clock=CLOCK)
    verify_seal(tiers.checkpoint(label(40).name))
    assert hidden(tiers) == []
