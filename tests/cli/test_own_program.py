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


def test_a_failed_run_with_a_checkpoint_is_told_how_to_go_on(cli: Cli) -> None:
    cli.write("count.py", COUNT + "sys.exit(3)\n")
    config = {"command": [sys.executable, "count.py", "seal"], "resources": {"memory": "100MiB"}, "max_retries": 0,
              "env": {"PYTHONPATH": str(ROOT)}}  # fmt: skip
    cli.write("count.yaml", json.dumps(config))
    done = cli("launch", "count.yaml")
    (run_id,) = [row["run_id"] for row in cli.json("runs")]
    assert f"nexa launch FILE --resume {run_id}" in done.stdout


def test_going_on_from_a_training_that_is_done_is_warned_of(cli: Cli) -> None:
    tiny = str(ROOT / "nexa_train" / "configs" / "tiny.yaml")
    first = cli.json("launch", tiny, "--set", "training.max_steps=2", "--wait")["submission"]
    again = cli("launch", tiny, "--set", "training.max_steps=2", "--resume", first, "--detach")
    assert f"warning: {first} has made all 2 steps of training.max_steps" in again.stderr
    assert "warning" not in cli("launch", tiny, "--set", "training.max_steps=4", "--resume", first, "--detach").stderr
    cli.ok("cancel", *(row["run_id"] for row in cli.json("runs", "--where", "state=none")))
