from __future__ import annotations

from pathlib import Path

import pytest

from nexa_infra.storage.artifacts import find_artifact
from nexa_infra.storage.intents import create_claim, list_intents, take_claim
from nexa_infra.storage.layout import Tiers
from nexa_infra.storage.promote import promote_folder
from nexa_infra.storage.recovery import Recovery, recover_promotions
from tests.storage.artifacts_made import CLOCK, RUN_ID, hidden, label, make_tiers, save_checkpoint

NAME = label(40).name


@pytest.fixture
def tiers(tmp_path: Path) -> Tiers:
    return make_tiers(tmp_path)


def die_while_copying(tiers: Tiers) -> None:
    claim = create_claim(tiers, NAME, source=tiers.scratch, clock=CLOCK)
    assert claim is not None
    claim.release()  # as the kernel does when a process ends
    incoming = tiers.incoming(NAME, "0123")
    incoming.mkdir()
    (incoming / "model.safetensors").write_bytes(b"half")


def die_before_the_manifest(tiers: Tiers) -> Path:
    promote_folder(save_checkpoint(tiers, 40), label(40), tiers=tiers, clock=CLOCK)
    tiers.artifact_manifest(NAME).unlink()
    claim = create_claim(tiers, NAME, source=tiers.scratch, clock=CLOCK)
    assert claim is not None
    claim.release()
    return tiers.checkpoint(NAME)


def test_a_copy_that_was_cut_off_is_removed(tiers: Tiers) -> None:
    die_while_copying(tiers)
    assert recover_promotions(tiers, clock=CLOCK) == Recovery(removed=(NAME,))
    assert not tiers.checkpoint(NAME).exists()
    assert hidden(tiers) == []


def test_a_visible_artifact_gets_its_manifest(tiers: Tiers) -> None:
    die_before_the_manifest(tiers)
    assert recover_promotions(tiers, clock=CLOCK) == Recovery(completed=(NAME,))
    manifest = find_artifact(tiers, NAME)
    assert manifest is not None
    assert (manifest.run_id, manifest.step, manifest.kind) == (RUN_ID, 40, "checkpoint")
    assert hidden(tiers) == []


def test_a_visible_artifact_that_is_damaged_is_set_aside_and_not_deleted(tiers: Tiers) -> None:
    target = die_before_the_manifest(tiers)
    (target / "model.safetensors").write_bytes(b"rotten")
    assert recover_promotions(tiers, clock=CLOCK) == Recovery(damaged=(NAME,))
    assert not target.exists()
    assert find_artifact(tiers, NAME) is None
    (aside,) = tiers.checkpoints.glob(f".damaged-{NAME}-*")
    assert (aside / "model.safetensors").read_bytes() == b"rotten"


def test_recovery_again_finds_nothing_to_do(tiers: Tiers) -> None:
    die_while_copying(tiers)
    recover_promotions(tiers, clock=CLOCK)
    assert recover_promotions(tiers, clock=CLOCK) == Recovery()


def test_what_a_living_process_is_at_work_on_is_not_touched(tiers: Tiers) -> None:
    claim = create_claim(tiers, NAME, source=tiers.scratch, clock=CLOCK)
    assert claim is not None
    incoming = tiers.incoming(NAME, "0123")
    incoming.mkdir()
    assert recover_promotions(tiers, clock=CLOCK) == Recovery()
    assert incoming.is_dir()
    assert list_intents(tiers) == (NAME,)
    claim.finish()
    recover_promotions(tiers, clock=CLOCK)
    assert not incoming.exists()


def test_a_promotion_taken_for_dead_cannot_become_visible_by_half(tiers: Tiers) -> None:
    # Its copy is renamed before anything of it is deleted, so its own rename finds nothing.
    incoming = tiers.incoming(NAME, "0123")
    incoming.mkdir()
    recover_promotions(tiers, clock=CLOCK)
    with pytest.raises(FileNotFoundError):
        incoming.rename(tiers.checkpoint(NAME))


def test_names_that_begin_alike_are_kept_apart(tiers: Tiers) -> None:
    claim = create_claim(tiers, f"{NAME}-b", source=tiers.scratch, clock=CLOCK)
    assert claim is not None
    other = tiers.incoming(f"{NAME}-b", "0123")
    other.mkdir()
    die_while_copying(tiers)
    assert recover_promotions(tiers, clock=CLOCK) == Recovery(removed=(NAME,))
    assert other.is_dir()
    claim.finish()


def test_a_claim_is_for_one_at_a_time(tiers: Tiers) -> None:
    claim = create_claim(tiers, NAME, source=tiers.scratch, clock=CLOCK)
    assert claim is not None
    assert create_claim(tiers, NAME, source=tiers.scratch, clock=CLOCK) is None
    assert take_claim(tiers, NAME, wait=False) is None
    claim.release()
    taken = take_claim(tiers, NAME, wait=True)
    assert taken is not None
    taken.finish()
    assert take_claim(tiers, NAME, wait=True) is None


def test_removals_and_writers_that_were_cut_off_are_finished(tiers: Tiers) -> None:
    (tiers.checkpoints / ".removed-0123" / "deep").mkdir(parents=True)
    (tiers.intents / f".{NAME}.json.0123.tmp").write_bytes(b"{")
    recover_promotions(tiers, clock=CLOCK, temporary_age_s=-1e9)
    assert hidden(tiers) == []
