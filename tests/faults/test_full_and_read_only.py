from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from nexa_infra.process import SystemRunner

DRIVER = Path(__file__).with_name("mount_driver.py")


def drive(folder: Path, case: str) -> dict[str, Any]:
    # chmod does not stop root, so the file system itself has to be full or read-only, where nobody else sees it.
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    command = [*namespace, sys.executable, str(DRIVER), str(folder), case]
    said = SystemRunner().run(command, timeout_s=300).require_success().stdout
    return dict(json.loads(said))


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("too large", r"6.7 MiB to promote, \d"),
        ("no room", r"to promote, \d.* free; free space on durable; nothing was promoted"),
        ("no inodes", "no space left on device; free space there"),
        ("read-only", "mounted read-only"),
    ],
)
def test_a_durable_that_cannot_take_it_says_so_and_nothing_is_lost(tmp_path: Path, case: str, message: str) -> None:
    said = drive(tmp_path / "tiers", case)
    assert said["visible"] is False
    assert said["left"] == []
    assert said["source"] >= 1_000_000
    assert said["afterwards"] == said["source"]
    assert re.search(message, said["promote"]), said["promote"]


def test_a_file_that_does_not_fit_is_an_error_that_names_it_and_what_to_do(tmp_path: Path) -> None:
    said = drive(tmp_path / "tiers", "no room")
    for writing in ("create", "replace"):
        assert "writing failed: no space left on device; free space there" in said[writing]


def test_a_read_only_tier_is_found_before_work_begins(tmp_path: Path) -> None:
    said = drive(tmp_path / "tiers", "read-only")
    assert "tiers.durable" in said["check"]
    assert "is mounted read-only; allowed: a folder this user can write" in said["check"]
    assert "read-only file system" in said["create"]
