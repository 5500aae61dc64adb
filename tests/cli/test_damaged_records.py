"""A damaged record is named, with what to do, and the rest is shown all the same."""

from __future__ import annotations

import json
import re

import pytest

from tests.cli.cli_process import Cli


@pytest.fixture
def run_id(cli: Cli) -> str:
    return str(cli.json("launch", "hello.yaml", "--wait")["runs"][0]["run_id"])


@pytest.mark.parametrize("text", ["", '{"run_id": "ru', "[]", '{"number": 1}'])
def test_show_names_a_damaged_attempt_in_one_line_and_shows_all_else(cli: Cli, run_id: str, text: str) -> None:
    path = cli.project.attempt(run_id, 1)
    path.write_text(text)
    done = cli("show", run_id)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1
    assert f"warning: {path}: " in done.stderr
    for section in ("launch", "result", "config", "code", "data", "environment"):
        assert f"\n{section}\n" in done.stdout
    assert re.search(r"attempt 1 +cannot be read", done.stdout)


@pytest.mark.parametrize("kind", ["outcome", "cost"])
def test_show_names_a_damaged_outcome_or_cost_and_shows_all_else(cli: Cli, run_id: str, kind: str) -> None:
    path = getattr(cli.project, kind)(run_id)
    path.write_text("{")
    done = cli("show", run_id)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(str(path)) == 1
    assert "\nenvironment\n" in done.stdout
    assert "not ended" not in done.stdout


@pytest.mark.parametrize("command", [("runs",), ("cost", "summary"), ("leaderboard", "--no-write")])
@pytest.mark.parametrize("as_json", [False, True])
def test_every_list_says_how_many_manifests_it_could_not_read_and_which(
    cli: Cli, run_id: str, command: tuple[str, ...], as_json: bool
) -> None:
    for number in range(7):
        (cli.project.manifests / f"run_20260101_00000{number}_abcd.json").write_text("{")
    done = cli(*command, *(["--json"] if as_json else []))
    assert done.returncode == 0, done.stderr
    assert run_id in done.stdout or command[0] == "cost"
    assert "7 manifests cannot be read" in done.stderr
    assert "git" in done.stderr
    named = [number for number in range(7) if f"run_20260101_00000{number}_abcd.json" in done.stderr]
    assert named == [0, 1, 2, 3, 4]
    assert "and 2 more" in done.stderr
    if as_json:
        json.loads(done.stdout)


def test_a_whole_project_is_warned_of_nothing(cli: Cli, run_id: str) -> None:
    for command in (["runs"], ["cost", "summary"], ["leaderboard", "--no-write"], ["show", run_id]):
        assert "cannot be read" not in cli(*command).stderr
