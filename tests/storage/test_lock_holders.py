from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from nexa_infra.process import SystemRunner
from nexa_infra.storage.lock_holders import Lock, describe_holder, parse_locks

LISTED = """\
1: POSIX  ADVISORY  WRITE 30924 00:27:63 120 120
2: -> POSIX  ADVISORY  WRITE 7 00:27:63 120 120
3: POSIX  ADVISORY  READ 30815 fe:0a:50 1073741826 1073742335
4: FLOCK  ADVISORY  WRITE 30815 00:27:61 0 EOF
5: OFDLCK ADVISORY  READ -1 08:01:9 0 EOF
"""
HOLDS = (
    "import sqlite3, sys\n"
    "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
    "connection.execute(sys.argv[2]).fetchall()\n"
    "print('held', flush=True)\n"
    "sys.stdin.readline()\n"
)


def test_the_locks_that_are_held_on_files_are_read_from_the_kernels_list() -> None:
    assert parse_locks(LISTED.splitlines()) == [
        Lock(is_write=True, pid=30924, device=(0, 0x27), inode=63),
        Lock(is_write=False, pid=30815, device=(0xFE, 0x0A), inode=50),
        Lock(is_write=False, pid=-1, device=(8, 1), inode=9),
    ]


@given(st.lists(st.text()))
def test_any_other_line_is_passed_over(lines: list[str]) -> None:
    assert parse_locks(lines) == []


def test_the_process_that_writes_is_named_and_those_that_read_are_not(tmp_path: Path) -> None:
    path = tmp_path / "some.sqlite3"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE numbers (number)")
    assert describe_holder(path) == "another process"
    argv = [sys.executable, "-c", HOLDS, str(path), "BEGIN IMMEDIATE"]
    holder = SystemRunner().start(argv, output="pipes", env=os.environ)
    assert holder.stdout.readline() == b"held\n"
    assert describe_holder(path).startswith(f"process {holder.pid} (")
    holder.close_input()
    assert holder.wait(60) == 0
    holder.close()
    connection.close()


def test_a_credential_in_the_holders_command_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "some.sqlite3"
    argv = [sys.executable, "-c", HOLDS, str(path), "BEGIN IMMEDIATE", "hf_" + "a" * 34]
    holder = SystemRunner().start(argv, output="pipes", env=os.environ)
    assert holder.stdout.readline() == b"held\n"
    assert "hf_" not in describe_holder(path)
    holder.close_input()
    assert holder.wait(60) == 0
    holder.close()
