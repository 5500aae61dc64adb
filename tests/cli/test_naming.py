"""What a person types as the name of a run."""

from __future__ import annotations

import json
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
    (cli.project.run(written["submission"]) / "submission.json").write_text("{}")
    done = cli("cancel", written["submission"], timeout_s=60.0)
    assert done.returncode == 1
    assert done.stdout.count("the backend does not hold it") == 2


def test_a_sweep_that_was_only_written_is_told_as_such_and_can_be_cancelled(cli: Cli) -> None:
    cli.write("sweep.yaml", "base: hello.yaml\naxes: {params.x: {values: [1, 2]}}\n")
    sweep_id = cli.json("sweep", "sweep.yaml", "--no-submit")["submission"]
    assert f"2 runs: not submitted: nexa sweep --resume {sweep_id} submits it" in cli.ok("status", sweep_id)
    assert "2 not submitted" in cli.ok("sweeps")
    assert cli.ok("runs").count("NOT SUBMITTED") == 2
    watched = cli.ok("watch", "--interval", "2")
    assert watched == f"every run has ended; 2 runs were only written: nexa sweep --resume {sweep_id} submits them\n"
    assert json.loads(cli.ok("watch", "--once", "--json"))["written"] == {sweep_id: 2}
    would_end = cli.ok("cancel", sweep_id, "--dry-run")
    assert would_end.count("would be ended (NOT SUBMITTED)") == 2
    assert cli.ok("cancel", sweep_id).count(": CANCELLED") == 2
    assert "nothing to end" in cli.ok("cancel", sweep_id)
    assert "2 cancelled" in cli.ok("sweeps")
    assert cli.json("sweep", "--resume", sweep_id, "--wait")["counts"] == {"SUCCEEDED": 2}


def test_a_sweep_in_the_place_of_a_run_is_told_as_one_and_a_member_named(cli: Cli) -> None:
    cli.write("sweep.yaml", "base: hello.yaml\naxes: {params.x: {values: [1, 2]}}\n")
    written = cli.json("sweep", "sweep.yaml", "--no-submit")
    sweep_id = written["submission"]
    done = cli("logs", sweep_id)
    assert done.returncode == 2
    assert f"{sweep_id}: found a sweep; allowed: a run, as {written['run_ids'][0]}" in done.stderr
    assert "no such sweep" in cli("logs", "sweep_20000101_000000_aaaa").stderr


def test_help_is_a_command_too(cli: Cli) -> None:
    overview = cli.ok("--help")
    assert cli.ok("help") == overview
    assert "tpe" in overview
    assert cli.ok("help", "logs") == cli.ok("logs", "--help")
    assert "did you mean launch?" in cli("help", "lanch").stderr


def test_a_wrong_option_of_a_sweep_is_named_as_it_was_typed(cli: Cli) -> None:
    cli.write("sweep.yaml", "base: hello.yaml\naxes: {params.x: {values: [1, 2]}}\n")
    assert "nexa: --search tpee: search: found 'tpee'" in cli("sweep", "sweep.yaml", "--search", "tpee").stderr


def test_a_resumed_sweep_is_submitted_and_a_flag_that_says_otherwise_refused(cli: Cli) -> None:
    cli.write("sweep.yaml", "base: hello.yaml\naxes: {params.x: {values: [1, 2]}}\n")
    written = cli.json("sweep", "sweep.yaml", "--no-submit")
    done = cli("sweep", "--resume", written["submission"], "--no-submit")
    assert done.returncode == 2
    assert "--no-submit are for a new sweep" in done.stderr
