"""Commands in a project whose `runs` folder is read-only: `looking_driver FOLDER CASE`, see `namespace`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.cli.cli_process import HELLO, Cli, end_supervisor
from tests.faults.ending_driver import make_project
from tests.faults.namespace import make_read_only, make_writable

COMMANDS = (
    "runs", "status", "show last", "logs last", "compare last last", "cost summary --by month", "leaderboard",
    "cancel last", "doctor", "launch hello.yaml", "sweep sweep.yaml",
)  # fmt: skip


def main(folder: Path, case: str) -> None:
    os.environ["NEXA_STATE_DIR"] = str(folder / "state")
    cli = make_project(folder / "project", folder / "tiers")
    cli.write("hello.yaml", HELLO)
    cli.write("sweep.yaml", "name: two\nbase: hello.yaml\naxes: {params.x: {values: [1, 2]}}\n")
    try:
        cli.ok("launch", "hello.yaml")
        said = look(cli, is_indexed=case == "with an index")
    finally:
        end_supervisor()
    print(json.dumps(said))


def look(cli: Cli, *, is_indexed: bool) -> dict[str, Any]:
    runs = cli.project.runs
    if is_indexed:
        cli.ok("runs")
    make_read_only(runs)
    said = {}
    for command in COMMANDS:
        done = cli(*command.split())
        said[command] = [done.returncode, done.stdout, done.stderr]
    make_writable(runs)
    return {"said": said, "runs": [run["run_id"] for run in cli.json("runs")]}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
