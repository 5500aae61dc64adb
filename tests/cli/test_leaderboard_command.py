"""What is ranked by what, and when nothing is written."""

from __future__ import annotations

import json

import pytest

from tests.cli.cli_process import Cli

RESULT = (
    "import json, os, pathlib\n"
    "x = json.loads(pathlib.Path(os.environ['NEXA_RUN_CONFIG']).read_text())['params']['x']\n"
    "result = pathlib.Path(os.environ['NEXA_RUN_DIR'], 'attempts', '1.result.json')\n"
    "result.write_text(json.dumps({'metrics': {'eval_loss': x, 'loss': -x}}))\n"
)


@pytest.fixture
def sweep_id(cli: Cli) -> str:
    base = {"name": "base", "command": ["python3", "-c", RESULT], "params": {"x": 1},
            "resources": {"memory": "64MiB"}}  # fmt: skip
    cli.write("base.yaml", json.dumps(base))
    cli.write("sweep.yaml", json.dumps({"base": "base.yaml", "axes": {"params.x": {"values": [1, 2]}}}))
    found = json.loads(cli.ok("sweep", "sweep.yaml", "--json", "--wait"))
    return str(found["submission"])


def test_a_metric_that_no_run_has_is_refused_with_those_there_are(cli: Cli, sweep_id: str) -> None:
    done = cli("leaderboard", sweep_id, "--metric", "los")
    assert done.returncode == 2
    assert "--metric: found 'los'; did you mean loss? the runs have: eval_loss, loss" in done.stderr
    assert not list(cli.project.root.glob("storage/durable/evals/reports/*.parquet"))


def test_runs_that_have_nothing_in_common_are_told_so_and_not_written(cli: Cli, sweep_id: str) -> None:
    cli.ok("launch", "base.yaml", "--set", "name=alone", "--json", "--wait")
    done = cli("leaderboard")
    assert "runs of 2 sweeps or names are ranked together" in done.stderr
    assert "written to" not in done.stdout
    assert "alone" in done.stdout
    assert "written to" in cli.ok("leaderboard", "--write")
    assert "written to" in cli.ok("leaderboard", sweep_id)


def test_the_direction_alone_keeps_the_sweeps_own_metric(cli: Cli, sweep_id: str) -> None:
    found = cli.json("leaderboard", sweep_id, "--maximize", "--no-write")
    assert found["objective"]["metric"] == "eval_loss"
    assert [row["value"] for row in found["rows"]] == [2.0, 1.0]
