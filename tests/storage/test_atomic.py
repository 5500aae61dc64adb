from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from nexa_contracts.errors import AlreadyExists, StorageError
from nexa_infra.storage.atomic import (
    append_line,
    create_file,
    make_folder,
    rename_exclusively,
    replace_file,
    sweep_temporary,
)
from nexa_infra.testing.clock import FakeClock


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_created_file_has_its_parents_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.json"
    create_file(path, b"{}")
    assert path.read_bytes() == b"{}"
    assert names(path.parent) == ["c.json"]


def test_what_exists_is_never_created_again(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    create_file(path, b"first")
    with pytest.raises(AlreadyExists, match="manifest"):
        create_file(path, b"second")
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["manifest.json"]


def test_of_many_creators_one_wins_and_the_file_is_its(tmp_path: Path) -> None:
    path = tmp_path / "outcome.json"
    start = threading.Barrier(8)
    won: list[int] = []

    def create(number: int) -> None:
        start.wait()
        try:
            create_file(path, str(number).encode() * 1000)
        except AlreadyExists:
            return
        won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert path.read_bytes() == str(won[0]).encode() * 1000


def test_a_created_file_has_the_mode_that_was_asked(tmp_path: Path) -> None:
    create_file(tmp_path / "key", b"", mode=0o600)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_a_dangling_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AlreadyExists):
        create_file(tmp_path / "link", b"x")
    assert not (tmp_path / "elsewhere").exists()


def test_a_reader_of_a_replaced_file_keeps_the_whole_old_one(tmp_path: Path) -> None:
    path = tmp_path / "heartbeat.json"
    replace_file(path, b"old")
    with path.open("rb") as reader:
        replace_file(path, b"new and longer")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new and longer"
    assert names(tmp_path) == ["heartbeat.json"]


def test_a_folder_in_the_place_of_a_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(StorageError, match=r"taken: writing failed: is a directory"):
        replace_file(tmp_path / "taken", b"x")
    assert names(tmp_path) == ["taken"]


def test_a_file_in_the_place_of_a_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(StorageError, match="taken"):
        make_folder(tmp_path / "taken" / "below")


def test_lines_of_many_writers_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "new" / "metrics.jsonl"

    def write(number: int) -> None:
        for _ in range(50):
            append_line(path, str(number).encode() * 500)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = path.read_bytes().splitlines()
    assert sorted(lines) == sorted(str(number).encode() * 500 for number in range(4) for _ in range(50))


@pytest.mark.parametrize("kind", ["file", "folder", "empty folder"])
def test_a_rename_replaces_nothing(tmp_path: Path, kind: str) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    if kind == "file":
        target.write_bytes(b"x")
    else:
        target.mkdir()
    if kind == "folder":
        (target / "content").write_bytes(b"x")
    with pytest.raises(AlreadyExists, match="target"):
        rename_exclusively(source, target)
    assert source.is_dir()


def test_only_old_leftovers_of_writers_are_swept(tmp_path: Path) -> None:
    clock = FakeClock()
    for name, age_s in ((".a.json.0f.tmp", 7200), (".b.json.1f.tmp", 10), ("c.tmp", 7200), (".hidden", 7200)):
        (tmp_path / name).write_bytes(b"")
        written = clock.now().timestamp() - age_s
        os.utime(tmp_path / name, (written, written))
    assert sweep_temporary(tmp_path, older_than_s=3600, clock=clock) == 1
    assert names(tmp_path) == [".b.json.1f.tmp", ".hidden", "c.tmp"]
    assert sweep_temporary(tmp_path / "none", older_than_s=3600, clock=clock) == 0
