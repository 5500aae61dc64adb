from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nexa_infra.storage.checkpoints import ResumeChoice, find_resumable, rotate
from nexa_infra.storage.layout import Tiers
from nexa_infra.storage.promote import promote_folder
from tests.storage.artifacts_made import CLOCK, RUN_ID, label, make_tiers, save_checkpoint


@pytest.fixture
def tiers(tmp_path: Path) -> Tiers:
    return make_tiers(tmp_path)


def damage(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"cut")


def steps_left(tiers: Tiers) -> list[int]:
    return sorted(int(path.name.removeprefix("checkpoint-")) for path in tiers.checkpoints_temp(RUN_ID).iterdir())


def test_a_run_without_checkpoints_starts_afresh(tiers: Tiers) -> None:
    assert find_resumable(RUN_ID, tiers) == ResumeChoice(None, None)


def test_the_newest_step_wins_as_a_number(tiers: Tiers) -> None:
    for step in (90, 1000, 200):
        newest = save_checkpoint(tiers, step)
        newest = tiers.checkpoints_temp(RUN_ID) / "checkpoint-1000"
    assert find_resumable(RUN_ID, tiers) == ResumeChoice(newest, 1000)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tiers: Tiers) -> None:
    whole = save_checkpoint(tiers, 100)
    damage(save_checkpoint(tiers, 200))
    save_checkpoint(tiers, 300, sealed=False)
    choice = find_resumable(RUN_ID, tiers)
    assert (choice.path, choice.step) == (whole, 100)
    assert choice.skipped[0].startswith("checkpoint-300 is not sealed: it was cut off")
    assert choice.skipped[1].startswith("checkpoint-200 is damaged: ")
    assert "model.safetensors is damaged: 3 bytes, recorded 10243" in choice.skipped[1]
    assert len(choice.skipped) == 2


def test_a_kept_checkpoint_is_used_when_scratch_died_with_its_node(tiers: Tiers) -> None:
    promote_folder(save_checkpoint(tiers, 100), label(100), tiers=tiers, clock=CLOCK)
    shutil.rmtree(tiers.checkpoints_temp(RUN_ID))
    assert find_resumable(RUN_ID, tiers) == ResumeChoice(tiers.checkpoint(label(100).name), 100)


def test_of_one_step_scratch_is_tried_first_then_durable(tiers: Tiers) -> None:
    on_scratch = save_checkpoint(tiers, 100)
    promote_folder(on_scratch, label(100), tiers=tiers, clock=CLOCK)
    assert find_resumable(RUN_ID, tiers).path == on_scratch
    damage(on_scratch)
    choice = find_resumable(RUN_ID, tiers)
    assert choice.path == tiers.checkpoint(label(100).name)
    assert len(choice.skipped) == 1


def test_a_checkpoint_of_another_run_or_step_is_not_taken(tiers: Tiers) -> None:
    other = save_checkpoint(tiers, 100, run_id="run_20260102_030405_zzzz")
    folder = tiers.checkpoints_temp(RUN_ID)
    folder.mkdir()
    shutil.copytree(other, folder / "checkpoint-100")
    shutil.copytree(save_checkpoint(tiers, 7), folder / "checkpoint-9")
    choice = find_resumable(RUN_ID, tiers)
    assert choice.step == 7
    assert [line.split(" (")[0] for line in choice.skipped] == [
        "checkpoint-100 is sealed as checkpoint of run_20260102_030405_zzzz at step 100",
        f"checkpoint-9 is sealed as checkpoint of {RUN_ID} at step 7",
    ]


@pytest.mark.parametrize("name", ["checkpoint-", "checkpoint-x", "checkpoint-007", "checkpoint--1", "checkpoint-1.5"])
def test_what_is_not_called_a_checkpoint_is_none(tiers: Tiers, name: str) -> None:
    save_checkpoint(tiers, 100).rename(tiers.checkpoints_temp(RUN_ID) / name)
    assert find_resumable(RUN_ID, tiers) == ResumeChoice(None, None)


def test_only_the_newest_whole_checkpoints_stay(tiers: Tiers) -> None:
    for step in (1, 2, 3, 4, 5):
        save_checkpoint(tiers, step)
    damage(tiers.checkpoints_temp(RUN_ID) / "checkpoint-4")
    removed = rotate(RUN_ID, tiers, keep_last=2)
    assert sorted(path.name for path in removed) == ["checkpoint-1", "checkpoint-2", "checkpoint-4"]
    assert steps_left(tiers) == [3, 5]


def test_what_may_still_be_being_written_stays(tiers: Tiers) -> None:
    for step in (1, 2):
        save_checkpoint(tiers, step)
    save_checkpoint(tiers, 3, sealed=False)
    rotate(RUN_ID, tiers, keep_last=1)
    assert steps_left(tiers) == [2, 3]


def test_nothing_goes_while_nothing_is_whole(tiers: Tiers) -> None:
    for step in (1, 2, 3):
        damage(save_checkpoint(tiers, step))
    assert rotate(RUN_ID, tiers, keep_last=1) == ()
    assert steps_left(tiers) == [1, 2, 3]


def test_what_is_being_promoted_stays(tiers: Tiers) -> None:
    folders = [save_checkpoint(tiers, step) for step in (1, 2, 3)]
    rotate(RUN_ID, tiers, keep_last=1, protected=folders[:1])
    assert steps_left(tiers) == [1, 3]


def test_folders_known_to_be_whole_are_not_read_again(tiers: Tiers) -> None:
    folders = [save_checkpoint(tiers, step) for step in (1, 2, 3)]
    damage(folders[2])  # which only reading it again would show
    verified = set(folders)
    rotate(RUN_ID, tiers, keep_last=2, verified=verified)
    assert steps_left(tiers) == [2, 3]
    assert verified == set(folders[1:])


def test_keeping_none_is_refused(tiers: Tiers) -> None:
    with pytest.raises(ValueError, match="keep_last"):
        rotate(RUN_ID, tiers, keep_last=0)
