from __future__ import annotations

from pathlib import Path

import pytest

from nexa_contracts.errors import AlreadyExists
from nexa_infra.storage.reserve import create_in_room, release_room, reserve_room

ROOM_BYTES = 4096


def test_room_is_taken_beforehand_and_seen_by_no_reader(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "record.json"
    assert reserve_room(path, ROOM_BYTES)
    assert not path.exists()
    (room,) = path.parent.iterdir()
    assert room.name.startswith(".")
    assert room.stat().st_blocks * 512 >= ROOM_BYTES


@pytest.mark.parametrize("size", [0, 1, ROOM_BYTES, 3 * ROOM_BYTES])
@pytest.mark.parametrize("is_reserved", [True, False])
def test_a_file_holds_what_was_written_in_its_room_and_no_more(tmp_path: Path, size: int, is_reserved: bool) -> None:
    path = tmp_path / "record.json"
    if is_reserved:
        reserve_room(path, ROOM_BYTES)
    create_in_room(path, b"r" * size)
    assert path.read_bytes() == b"r" * size
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_there_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text("first")
    with pytest.raises(AlreadyExists):
        create_in_room(path, b"second")
    assert path.read_text() == "first"


def test_room_that_cannot_be_had_is_no_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file")
    assert not reserve_room(tmp_path / "folder" / "record.json", ROOM_BYTES)
    assert not reserve_room(tmp_path / "record.json", 1 << 60)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_releasing_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    reserve_room(path, ROOM_BYTES)
    release_room(path)
    create_in_room(path, b"r")
    release_room(path)
    release_room(path)
    assert list(tmp_path.iterdir()) == []
