from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_contracts.clock import SystemClock
from nexa_contracts.errors import CommandTimedOut
from nexa_contracts.health import WatchedFolder
from nexa_infra.health.checks.disk import judge_folder
from nexa_infra.health.checks.machine import judge_clock
from nexa_infra.health.folders import (
    FolderAnswer,
    Offset,
    Room,
    choose_folders,
    list_mounts,
    read_folders,
    read_offset,
)
from nexa_infra.health.path_probe import describe, measure_offset
from nexa_infra.health.sources import Sources
from nexa_infra.process import SystemRunner
from nexa_infra.testing.clock import FakeClock
from nexa_infra.testing.process import FakeRunner
from tests.health.health_made import make_sources, own

GIB = 2**30
MOUNTS = {"/": "ext4", "/mnt/lustre": "lustre", "/proc": "proc"}


def room(**changed: object) -> Room:
    whole = {
        "size_bytes": 100 * GIB,
        "free_bytes": 60 * GIB,
        "used_bytes": 40 * GIB,
        "inodes": 1000,
        "free_inodes": 900,
        "is_read_only": False,
        "may_write": True,
    }
    return Room(**{**whole, **changed})  # type: ignore[arg-type]


def answer(found: Room | None = None, *, words: str = "", must_write: bool = True, hangs: bool = False) -> FolderAnswer:
    watched = WatchedFolder(path="/data", must_write=must_write)
    return FolderAnswer(watched, found, words, is_missing="no such" in words, hangs=hangs)


@pytest.mark.parametrize(
    ("given", "result", "words"),
    [
        (answer(room()), "ok", "statvfs"),
        (answer(room(free_bytes=15 * GIB, used_bytes=85 * GIB)), "warn", "nearly full"),
        (answer(room(free_bytes=4 * GIB, used_bytes=96 * GIB)), "fail", "full"),
        (answer(room(free_inodes=10)), "fail", "out of inodes"),
        (answer(room(inodes=0, free_inodes=0)), "ok", "statvfs"),
        (answer(room(is_read_only=True)), "fail", "mounted read-only"),
        (answer(room(is_read_only=True), must_write=False), "ok", "statvfs"),
        (answer(room(may_write=False)), "fail", "not writable for this user"),
        (answer(words="no answer in 10 s", hangs=True), "fail", "no answer in 10 s"),
        (answer(words="/data: no such file or directory"), "fail", "no such file"),
        (answer(words="/data: permission denied"), "unknown", "permission denied"),
    ],
)
def test_a_folder_is_judged_by_room_inodes_flags_and_whether_it_answers(
    given: FolderAnswer, result: str, words: str
) -> None:
    check = judge_folder(given, mounts=MOUNTS)
    assert check.result == result
    assert words in check.evidence
    assert check.name == "disk /data"


def test_a_mount_that_is_missing_is_told_from_the_empty_folder_below_it() -> None:
    wanted = WatchedFolder(path="/data", must_mount=True)
    assert judge_folder(FolderAnswer(wanted, room()), mounts=MOUNTS).evidence == "nothing is mounted there"
    assert judge_folder(FolderAnswer(wanted, room()), mounts={"/data": "nfs4"}).result == "ok"
    assert judge_folder(FolderAnswer(wanted, room()), mounts=None).result == "unknown"


def test_network_file_systems_are_looked_at_even_if_nobody_named_them() -> None:
    named = WatchedFolder(path="/mnt/lustre", must_write=True)
    assert [folder.path for folder in choose_folders((named,), MOUNTS)] == ["/mnt/lustre", "/"]
    assert choose_folders((named,), MOUNTS)[0].must_write


def test_a_mount_point_with_a_blank_is_read(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "mounts").write_text("server:/x /mnt/my\\040data nfs4 rw 0 0\n")
    assert list_mounts(make_sources(proc=tmp_path)) == {"/mnt/my data": "nfs4"}
    assert list_mounts(make_sources(proc=tmp_path / "none")) is None


def test_a_file_system_that_hangs_is_left_behind_and_the_others_are_read() -> None:
    fine = json.dumps(describe(Path("/")))
    runner = FakeRunner().answer((*own("path_probe"), "/hangs"), CommandTimedOut("still running"))
    runner.answer((*own("path_probe"), "/"), fine)
    hanging, root = read_folders(make_sources(runner), (WatchedFolder(path="/hangs"), WatchedFolder(path="/")))
    assert hanging.hangs
    assert root.room is not None


def test_real_folders_are_described(tmp_path: Path) -> None:
    sources = Sources(SystemRunner(), SystemClock(), {})
    there, missing = read_folders(
        sources, (WatchedFolder(path=str(tmp_path)), WatchedFolder(path=str(tmp_path / "none")))
    )
    assert there.room is not None
    assert there.room.size_bytes > 0
    assert missing.is_missing
    assert sources.python == sys.executable


def test_the_clock_is_held_against_whoever_stamps_the_files(tmp_path: Path) -> None:
    offset = read_offset(Sources(SystemRunner(), SystemClock(), {}), tmp_path)
    assert offset.offset_s is not None
    assert judge_clock(offset, folder=str(tmp_path)).result == "ok"
    assert list(tmp_path.iterdir()) == []
    ahead = FakeClock(SystemClock().now() + timedelta(hours=1))
    late = measure_offset(tmp_path, ahead)
    assert judge_clock(Offset(**late), folder="x").result == "fail"


def test_a_server_that_answers_late_leaves_the_clock_unknown() -> None:
    assert judge_clock(Offset(0.4, error_s=3.0), folder="x").result == "unknown"
    assert judge_clock(Offset(None, words="x: read-only file system"), folder="x").evidence.endswith("file system")


@given(st.floats(-1e6, 1e6), st.floats(0, 100))
def test_a_clock_is_never_called_right_when_it_may_be_wrong(offset_s: float, error_s: float) -> None:
    result = judge_clock(Offset(offset_s, error_s), folder="x").result
    if result == "ok":
        assert abs(offset_s) + error_s <= 0.5
    if result == "fail":
        assert abs(offset_s) - error_s > 0.5
