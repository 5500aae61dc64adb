"""What a shell is offered."""

from __future__ import annotations

import pytest

from tests.cli.cli_process import Cli


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("nexa launch --set res", "resources.gpus_per_node="),
        ("nexa launch --set training.le", "training.learning_rate="),
        ("nexa sweep --set tri", "trials="),
        ("nexa runs --where st", "state"),
        ("nexa runs --sort eva", "eval_loss"),
        ("nexa cost summary --by mo", "month"),
        ("nexa sw", "sweeps"),
    ],
)
def test_words_of_a_closed_list_are_offered(cli: Cli, typed: str, offered: str) -> None:
    words = typed.split()
    env = {"_NEXA_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    found = [line.partition(",")[2] for line in cli("launch", env=env).stdout.splitlines()]
    assert offered in found
