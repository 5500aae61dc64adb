"""A launch that was cut off between its manifest and its submission: what a person sees of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nexa_contracts.config import parse_override
from nexa_infra.operations.context import open_context
from tests.cli.cli_process import Cli
from tests.operations.cut_off import cut_off_launch


@pytest.fixture
def cut_off(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the run of a launch that was interrupted before it handed it over."""
    monkeypatch.chdir(cli.project.root)
    context = open_context(environment=dict(os.environ))
    return cut_off_launch(context, Path("hello.yaml"), parse_override("tags.team=vision"))


@pytest.mark.parametrize("command", ["runs", "status", "show", "cost", "leaderboard"])
def test_whoever_looks_next_is_told_that_it_never_ran_and_how_to_launch_it_again(
    cli: Cli, cut_off: str, command: str
) -> None:
    words = {"cost": ["cost", "show", cut_off], "leaderboard": ["leaderboard", "--no-write"], "runs": ["runs"]}
    shown = cli.ok(*words.get(command, [command, cut_off]))
    assert cut_off in shown
    status = cli.ok("status", cut_off)
    assert f"{cut_off}: FAILED" in status
    assert "not_submitted: it was planned and never submitted, because its launch was cut off" in status
    assert "launch it again: nexa launch hello.yaml --set tags.team=vision" in status
    assert [row["state"] for row in cli.json("runs")] == ["FAILED"]
    assert cli.json("cost", "show", cut_off)["total"] == 0.0


def test_the_list_shows_it_ended_at_once(cli: Cli, cut_off: str) -> None:
    assert [row["run_id"] for row in cli.json("runs", "--where", "state=FAILED")] == []
    assert [row["state"] for row in cli.json("runs")] == ["FAILED"]
    assert [row["run_id"] for row in cli.json("runs", "--where", "state=FAILED")] == [cut_off]


def test_a_run_that_was_meant_for_another_machine_is_left_to_that_one(cli: Cli, cut_off: str) -> None:
    (cli.project.run(cut_off) / ".launch.lock").write_text("of another machine")
    assert [row["state"] for row in cli.json("runs")] == ["UNKNOWN"]
    assert not cli.project.outcome(cut_off).exists()
