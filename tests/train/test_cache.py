"""What is built once: whole or not at all, shared by many, and never half there after a kill."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nexa_contracts.errors import ConfigError
from nexa_train.cache import build_once


def test_many_at_once_build_it_once(tmp_path: Path) -> None:
    built: list[Path] = []

    def build(folder: Path) -> None:
        built.append(folder)
        write_whole(folder)

    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: build_once(tmp_path / "cache" / "key", build), range(8)))
    assert len(built) == 1
    assert {(folder / "data").read_text() for folder in folders} == {"whole"}


def test_a_builder_that_fails_leaves_nothing_and_the_next_one_builds(tmp_path: Path) -> None:
    def refuse(folder: Path) -> None:
        (folder / "data").write_text("half")
        raise ConfigError("no")

    with pytest.raises(ConfigError):
        build_once(tmp_path / "key", refuse)
    assert [path.name for path in tmp_path.iterdir()] == ["key.lock"]
    assert build_once(tmp_path / "key", lambda folder: None).is_dir()


def test_a_killed_builder_holds_nobody_up_and_its_leftovers_go(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from nexa_train.cache import build_once\n"
        "def build(folder):\n"
        "    (folder / 'data').write_text('half'); print('building', flush=True); time.sleep(600)\n"
        "build_once(Path(sys.argv[1]), build)"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "key")], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "building\n"
    child.kill()
    child.communicate()
    build_once(tmp_path / "key", write_whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key", "key.lock"]
    assert (tmp_path / "key" / "data").read_text() == "whole"


def write_whole(folder: Path) -> None:
    (folder / "data").write_text("whole")
