"""A program of one's own, from its first run to one that goes on from it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.cli.cli_process import Cli

ROOT = Path(__file__).resolve().parents[2]
COUNT = """\
import os, pathlib, sys
from datetime import datetime, timezone

given, run_id = os.environ["NEXA_RESUME_CHECKPOINT"], os.environ["NEXA_RUN_ID"]
start = int((pathlib.Path(given) / "count.txt").read_text()) if given else 0
checkpoint = pathlib.Path(os.environ["NEXA_SCRATCH_DIR"], "checkpoints_temp", run_id, f"checkpoint-{start + 3}")
checkpoint.mkdir(parents=True)
(checkpoint / "count.txt").write_text(str(start + 3))
if "seal" in sys.argv:
    from nexa_infra.storage.seal import seal_folder

    seal_folder(checkpoint, kind="checkpoint", run_id=run_id, step=start + 3, now=datetime.now(timezone.utc))
print("counted from", start)
"""


def write(cli: Cli, name: str, *words: str) -> str:
    cli.write("count.py", COUNT)
    config = {"command": [sys.executable, "count.py", *words], "resources": {"memory": "100MiB"},
              "env": {"PYTHONPATH": str(ROOT)}}  # fmt: skip
    cli.write(name, json.dumps(config))
    return str(cli.json("launch", name, "--wait")["submission"])


def test_a_run_goes_on_from_the_sealed_checkpoint_of_another(cli: Cli) -> None:
    first = write(cli, "count.yaml", "seal")
    cli.ok("launch", "count.yaml", "--resume", first)
    assert cli.ok("logs", "last") == "counted from 3\n"
    shown = cli.ok("show", "last")
    assert f"from {first} step 3" in shown


@pytest.mark.parametrize("name", ["count.yaml", "hello.yaml"])
def test_without_a_sealed_checkpoint_it_is_said_how_to_save_one(cli: Cli, name: str) -> None:
    write(cli, "count.yaml")  # seals nothing
    run_id = cli.json("launch", name, "--wait")["submission"]
    done = cli("launch", name, "--resume", run_id)
    assert done.returncode == 2
    assert "found no sealed checkpoint of this run" in done.stderr
    assert "seal_folder" in done.stderr
    assert "docs/guide/own-program.md" in done.stderr


def test_what_a_failed_program_said_is_in_its_outcome(cli: Cli) -> None:
    code = (
        "import os; f = open(os.environ['NEXA_RUN_DIR'] + '/metrics.jsonl', 'w')\n"
        'f.write(\'{"step": 7, "eval_loss": 2.5}\\n\'); f.close(); raise SystemExit(3)'
    )
    cli.write("fails.yaml", json.dumps({"command": ["python3", "-c", code], "resources": {"memory": "64MiB"}}))
    (run,) = json.loads(cli("launch", "fails.yaml", "--set", "max_retries=0", "--json", "--wait").stdout)["runs"]
    assert (run["state"], run["metrics"]) == ("FAILED", {"eval_loss": 2.5})
    assert cli.json("runs", "--where", "eval_loss<3")[0]["run_id"] == run["run_id"]
