"""What a person types as the name of a run."""

from __future__ import annotations

import os
import sys

import pytest

from nexa_infra.process import SystemRunner
from tests.cli.cli_process import Cli


@pytest.mark.parametrize("command", ["cancel", "show", "status"])
def test_an_empty_name_is_nobody_and_not_the_last_run(cli: Cli, command: str) -> None:
    cli.ok("launch", "hello.yaml", "--json", "--wait")
    done = cli(command, "")
    assert done.returncode == 2
    assert "found an empty name" in done.stderr


def test_the_last_of_several_runs_of_one_second_is_the_one_launched_last(cli: Cli) -> None:
    run_ids = [cli.json("launch", "hello.yaml", "--wait")["submission"] for _ in range(2)]
    names = {run_id: f"run_20261101_000000_{letter * 4}" for run_id, letter in zip(run_ids, "ba", strict=True)}
    for run_id, name in names.items():  # the later one sorts first
        manifest = cli.project.manifest(run_id)
        cli.project.manifest(name).write_text(manifest.read_text().replace(run_id, name))
        manifest.unlink()
    cli.project.index.unlink(missing_ok=True)
    assert cli.json("show", "last")["manifest"]["run_id"] == names[run_ids[1]]


def test_a_word_that_begins_no_id_is_not_found(cli: Cli) -> None:
    run_id = cli.json("launch", "hello.yaml", "--wait")["submission"]
    for word in ("none", "\N{PARTY POPPER}", "run_2\n"):
        done = cli("show", word)
        assert done.returncode == 2
        assert "no such run" in done.stderr
    assert cli.ok("show", run_id[:12]).startswith(run_id)


@pytest.mark.parametrize("arguments", [("show",), ("launch",), ("runs", "--where")])
def test_bytes_that_are_no_text_are_refused_in_one_line(cli: Cli, arguments: tuple[str, ...]) -> None:
    done = SystemRunner().run(
        [sys.executable, "-m", "nexa_cli.main", *arguments, os.fsdecode(b"name=\xff")],
        timeout_s=60.0, cwd=cli.project.root,
    )  # fmt: skip
    assert done.returncode == 2
    assert "found bytes that are not UTF-8" in done.stderr
    assert "internal error" not in done.stderr


def test_cancelling_what_no_backend_holds_says_so_and_does_not_wait(cli: Cli) -> None:
    cli.write("sweep.yaml", "base: hello.yaml\naxes: {params.x: {values: [1, 2]}}\n")
    written = cli.json("sweep", "sweep.yaml", "--no-submit")
    done = cli("cancel", written["submission"], timeout_s=60.0)
    assert done.returncode == 1
    assert done.stdout.count("the backend does not hold it") == 2


def test_a_resumed_sweep_is_submitted_and_a_flag_that_says_otherwise_refused(cli: Cli) -> None:
    cli.write("sweep.yaml", "base: hello.yaml\naxes: {params.x: {values: [1, 2]}}\n")
    written = cli.json("sweep", "sweep.yaml", "--no-submit")
    done = cli("sweep", "--resume", written["submission"], "--no-submit")
    assert done.returncode == 2
    assert "--no-submit are for a new sweep" in done.stderr
