"""Runs side by side stay readable however narrow the terminal, and whatever the values."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from tests.cli.cli_process import HELLO, Cli

LONG = "x" * 70


@pytest.fixture
def runs(cli: Cli) -> list[str]:
    cli.write("long.yaml", HELLO)
    return [
        str(cli.json("launch", "long.yaml", "--set", f"tags.note={note}")["submission"]) for note in (LONG, "short")
    ]


def on_terminal(cli: Cli, columns: int, *arguments: str) -> list[str]:
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "nexa_cli.main", *arguments]
    child = subprocess.Popen(argv, cwd=cli.project.root, stdout=theirs, env={**os.environ, "COLUMNS": str(columns)})
    os.close(theirs)
    text = b""
    try:
        while piece := os.read(ours, 65536):
            text += piece
    except OSError:
        assert child.wait(60) == 0  # Linux says EIO at the end
    os.close(ours)
    return text.decode().splitlines()


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_every_run_is_named_in_full_and_no_value_is_cut(cli: Cli, runs: list[str], columns: int) -> None:
    lines = on_terminal(cli, columns, "compare", *runs)
    assert lines[:2] == [f"A  {runs[0]}", f"B  {runs[1]}"]
    assert "…" not in "".join(lines)
    assert any(LONG in line for line in lines)
    assert max(len(line) for line in lines if LONG not in line) <= columns


def test_into_a_file_there_is_one_line_a_difference(cli: Cli, runs: list[str]) -> None:
    lines = cli.ok("compare", *runs).splitlines()
    assert lines[3].split() == ["key", "A", "B"]
    (note,) = [line.split() for line in lines if "tags.note" in line]
    assert note == ["config", "tags.note", LONG, "short"]


def test_many_runs_have_letters_too(cli: Cli, runs: list[str]) -> None:
    lines = cli.ok("compare", *runs * 14).splitlines()
    assert lines[25].split() == ["Z", runs[1]]
    assert lines[26].split() == ["AA", runs[0]]
