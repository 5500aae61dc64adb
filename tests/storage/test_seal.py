from __future__ import annotations

from pathlib import Path

import pytest

from nexa_contracts.errors import DigestMismatch, NotFound, StorageError
from nexa_infra.storage.layout import SEAL_NAME
from nexa_infra.storage.seal import read_seal, seal_folder, verify_seal
from tests.storage.artifacts_made import CLOCK, RUN_ID, make_tiers, save_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_checkpoint(make_tiers(tmp_path), 40)


def reseal(folder: Path, *, step: int = 40, replace: bool = False) -> None:
    seal_folder(folder, kind="checkpoint", run_id=RUN_ID, step=step, now=CLOCK.now(), replace=replace)


def test_a_whole_folder_verifies(folder: Path) -> None:
    seal = verify_seal(folder)
    assert seal == read_seal(folder)
    assert [file.path for file in seal.files] == ["empty.json", "model.safetensors", "rng/state_0.pth"]
    assert (seal.kind, seal.run_id, seal.step) == ("checkpoint", RUN_ID, 40)


@pytest.mark.parametrize("position", [0, 5_000, -1])
def test_one_changed_bit_is_found_and_named(folder: Path, position: int) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[position] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(DigestMismatch, match=r"model.safetensors is damaged: sha256 \w+…, recorded \w+…"):
        verify_seal(folder)


def test_every_difference_is_named(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"cut off")
    (folder / "rng/state_0.pth").rename(folder / "rng/state_1.pth")
    with pytest.raises(DigestMismatch) as caught:
        verify_seal(folder)
    assert "rng/state_0.pth is missing" in caught.value.message
    assert "rng/state_1.pth is unknown" in caught.value.message
    assert "model.safetensors is damaged: 7 bytes, recorded 10242" in caught.value.message


def test_a_long_list_of_differences_is_cut(folder: Path) -> None:
    for number in range(20):
        (folder / f"unknown-{number:02}").write_bytes(b"")
    with pytest.raises(DigestMismatch, match=r"unknown-04 is unknown, and 15 more$"):
        verify_seal(folder)


def test_a_link_smuggled_in_is_refused(folder: Path) -> None:
    (folder / "empty.json").unlink()
    (folder / "empty.json").symlink_to("/dev/null")
    with pytest.raises(StorageError, match=r"empty.json is a symbolic link"):
        verify_seal(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"kind": "checkpoint"}', b"[" * 5000])
def test_a_damaged_seal_is_damage_not_a_crash(folder: Path, content: bytes) -> None:
    (folder / SEAL_NAME).write_bytes(content)
    with pytest.raises(DigestMismatch, match=SEAL_NAME):
        verify_seal(folder)


def test_a_folder_without_a_seal_is_not_sealed(folder: Path) -> None:
    (folder / SEAL_NAME).unlink()
    with pytest.raises(NotFound, match="not sealed"):
        verify_seal(folder)
    with pytest.raises(NotFound, match="not sealed"):
        verify_seal(folder / "nowhere")


def test_sealing_again_returns_the_seal_that_is_there(folder: Path) -> None:
    before = read_seal(folder)
    CLOCK.advance(60)
    reseal(folder)
    assert read_seal(folder) == before


def test_a_changed_folder_is_not_sealed_anew_unless_its_writer_says_so(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"trained further")
    with pytest.raises(DigestMismatch, match=r"model.safetensors is damaged"):
        reseal(folder)
    with pytest.raises(DigestMismatch, match=r"is sealed as checkpoint of run_\w+ at step 40"):
        reseal(folder, step=41)
    reseal(folder, replace=True)
    verify_seal(folder)


def test_what_a_killed_writer_of_the_seal_left_does_not_count(folder: Path) -> None:
    (folder / f".{SEAL_NAME}.0123abcd.tmp").write_bytes(b"{")
    verify_seal(folder)
    (folder / ".other.json.0123abcd.tmp").write_bytes(b"{")
    with pytest.raises(DigestMismatch, match="unknown"):
        verify_seal(folder)
