"""What a terminal shows of a sweep while it goes on."""

from __future__ import annotations

import io

from rich.console import Console

from nexa_cli.live import render_live
from nexa_contracts.states import JobState
from nexa_infra.operations.status import RunView, SubmissionView

SWEEP = "sweep_20260102_030405_abcd"


def draw(*runs: RunView) -> str:
    console = Console(file=io.StringIO(), width=120)
    with console.capture() as captured:
        console.print(render_live(SubmissionView(SWEEP, runs), 3.0))
    return captured.get()


def test_square_brackets_in_a_value_or_a_key_are_themselves() -> None:
    run = RunView("run_a-000", "n", JobState.RUNNING, index=0, point={"params.prompt": "[/b] [red]x", "tags.[y]": "z"})
    shown = draw(run)
    assert "[/b] [red]x" in shown
    assert "[y]" in shown
    assert "1 running" in shown


def test_rows_beyond_the_screen_are_counted() -> None:
    runs = [RunView(f"run_a-{index:03d}", "n", JobState.PENDING, index=index) for index in range(40)]
    assert "… and 24 more" in draw(*runs)
