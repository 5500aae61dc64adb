"""Output that nobody can take is one line and a status; a reader that has gone is neither an error nor a success."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.cli_process import Cli

COMMANDS = [
    ["--help"], ["--version"], ["runs", "--help"], ["runs"], ["runs", "--json"], ["status"], ["show"], ["doctor"],
    ["cost", "summary"], ["completion", "bash"],
]  # fmt: skip


def run_into(cli: Cli, stdout: int, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "nexa_cli.entry", *arguments],
        cwd=cli.project.root,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.fixture
def launched(cli: Cli) -> Cli:
    cli.ok("launch", "hello.yaml")
    return cli


def test_a_full_disk_behind_stdout_is_one_clear_line_and_no_success(launched: Cli) -> None:
    for arguments in COMMANDS:
        with Path("/dev/full").open("wb") as full:
            status, said = run_into(launched, full.fileno(), *arguments)
        assert (status, said) == (1, "nexa: stdout cannot be written: no space left on device\n"), arguments


def test_a_reader_that_has_gone_is_told_nothing(launched: Cli) -> None:
    for arguments in COMMANDS:
        reading, writing = os.pipe()
        os.close(reading)
        try:
            status, said = run_into(launched, writing, *arguments)
        finally:
            os.close(writing)
        assert (status, said) == (141, ""), arguments


def test_a_closed_stdout_is_no_reason_not_to_launch(cli: Cli) -> None:
    argv = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "nexa_cli.entry", "launch", "hello.yaml"]
    done = subprocess.run(argv, cwd=cli.project.root, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert cli.json("runs")[0]["state"] == "SUCCEEDED"
