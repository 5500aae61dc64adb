"""`nexa sweep`: many runs as one object, and only what is missing or failed again."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

from nexa_infra.storage.manifests import read_run_manifest
from tests.cli.cli_process import Cli

PROGRAM = """\
import json, os, pathlib, sys
config = json.loads(pathlib.Path(os.environ["NEXA_RUN_CONFIG"]).read_text())
x, y = config["params"]["x"], config["params"]["y"]
if x == 2 and not pathlib.Path(os.environ["NEXA_PROJECT_DIR"], "mended").exists():
    sys.exit("x of 2 is too much")
result = {"schema_version": 1, "metrics": {"eval_loss": x * 10.0 + y}}
attempt = os.environ["NEXA_ATTEMPT"]
pathlib.Path(os.environ["NEXA_RUN_DIR"], "attempts", f"{attempt}.result.json").write_text(json.dumps(result))
"""
SWEEP = f"""\
name: grid
run:
  command: [{sys.executable}, work.py]
  resources: {{memory: 64MiB, walltime: 1m}}
  max_retries: 0
search: grid
axes:
  params.x: {{values: [1, 2]}}
  params.y: {{int: [0, 2]}}
"""


def write(cli: Cli) -> Path:
    cli.write("work.py", PROGRAM)
    return cli.write("grid.yaml", SWEEP)


def test_a_grid_runs_every_point_last_axis_fastest(cli: Cli) -> None:
    cli.write("mended", "")
    write(cli)
    view = json.loads(cli.ok("sweep", "grid.yaml", "--json", "--wait"))
    points = [(run["point"]["params.x"], run["point"]["params.y"]) for run in view["runs"]]
    assert points == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]
    assert view["counts"] == {"SUCCEEDED": 6}
    assert [run["metrics"]["eval_loss"] for run in view["runs"]] == [10, 11, 12, 20, 21, 22]


def test_resume_runs_what_failed_and_nothing_else_and_keeps_numbers(cli: Cli) -> None:
    write(cli)
    first = cli("sweep", "grid.yaml", "--json", "--wait")
    assert first.returncode == 1
    before = json.loads(first.stdout)
    sweep_id = before["submission"]
    assert before["counts"] == {"SUCCEEDED": 3, "FAILED": 3}
    cli.write("mended", "")
    planned = cli.json("sweep", "--resume", sweep_id, "--dry-run")
    assert planned["job_count"] == 3
    after = json.loads(cli.ok("sweep", "--resume", sweep_id, "--json", "--wait"))
    assert [run["index"] for run in after["runs"]] == [3, 4, 5]
    whole = cli.json("status", sweep_id)
    assert whole["counts"] == {"SUCCEEDED": 6}
    assert [run["index"] for run in whole["runs"]] == list(range(6))
    kept = {run["run_id"] for run in before["runs"][:3]}
    assert {run["run_id"] for run in whole["runs"][:3]} == kept
    again = cli("sweep", "--resume", sweep_id)
    assert again.returncode == 0
    assert "nothing to submit" in again.stderr
    assert len(cli.json("runs", "--where", f"sweep={sweep_id}")) == 9


def test_what_was_written_and_not_submitted_is_submitted_once(cli: Cli) -> None:
    cli.write("mended", "")
    write(cli)
    written = json.loads(cli.ok("sweep", "grid.yaml", "--no-submit", "--json"))
    assert written["submitted"] is False
    sweep_id = written["submission"]
    assert cli.json("status", sweep_id)["counts"] == {"NOT SUBMITTED": 6}
    cli.ok("sweep", "--resume", sweep_id)
    whole = cli.json("status", sweep_id)
    assert whole["counts"] == {"SUCCEEDED": 6}
    assert {run["run_id"] for run in whole["runs"]} == set(written["run_ids"])


def test_the_leaderboard_ranks_and_is_written(cli: Cli) -> None:
    cli.write("mended", "")
    write(cli)
    shown = cli.ok("sweep", "grid.yaml")
    assert "leaderboard_" in shown
    assert "cost: 6 runs" in shown
    board = cli.json("leaderboard", "last", "--no-write")
    assert [row["value"] for row in board["rows"]] == [10, 11, 12, 20, 21, 22]
    assert [row["rank"] for row in board["rows"]] == [1, 2, 3, 4, 5, 6]
    reports = cli.project.root / "storage" / "durable" / "evals" / "reports"
    written = [path for path in reports.iterdir() if not path.name.startswith(".")]
    assert [path.suffix for path in written] == [".parquet"]  # and no picture, because no run wrote a curve


def test_the_dry_run_of_a_large_sweep_shows_its_first_runs_and_counts_the_rest(cli: Cli) -> None:
    cli.write("large.yaml", SWEEP.replace("int: [0, 2]", "int: [1, 1000]"))
    shown = cli.ok("sweep", "large.yaml", "--dry-run")
    assert "2000 runs planned" in shown
    assert "    9: " in shown
    assert "[params.x=1, params.y=10]" in shown
    assert "    … and 1990 more" in shown
    planned = json.loads(cli.ok("sweep", "large.yaml", "--dry-run", "--json"))
    assert (planned["job_count"], planned["plan"]["job_count"], planned["plan"]["left_out"]) == (2000, 2000, 1990)
    assert not cli.project.runs.exists()


def test_max_parallel_holds(cli: Cli) -> None:
    cli.write("mended", "")
    write(cli)
    cli.write("grid.yaml", SWEEP + "max_parallel: 1\n")
    view = json.loads(cli.ok("sweep", "grid.yaml", "--json", "--wait"))
    spans = []
    for run in view["runs"]:
        record = json.loads(cli.project.attempt(run["run_id"], 1).read_text())
        spans.append((record["started_at"], record["ended_at"]))
    spans.sort()
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(spans))


def test_each_member_knows_its_sweep_and_point(cli: Cli) -> None:
    write(cli)
    written = json.loads(
        cli.ok("sweep", "grid.yaml", "--no-submit", "--json", "--set", "axes={params.x: {values: [7]}}")
    )
    manifest = read_run_manifest(cli.project, written["run_ids"][0])
    assert manifest.sweep_id == written["submission"]
    assert manifest.point == {"params.x": 7}
    assert manifest.config.params == {"x": 7}
    assert manifest.name == "grid"  # the run written into the sweep has no name of its own


def test_a_wrong_axis_is_one_line_with_its_place(cli: Cli) -> None:
    cli.write("bad.yaml", SWEEP.replace("params.y: {int: [0, 2]}", "resources.cpu: {values: [1]}"))
    done = cli("sweep", "bad.yaml")
    assert done.returncode == 2
    assert "bad.yaml:9: axes.resources.cpu: unknown key; did you mean resources.cpus?" in done.stderr
