"""A whole training run, and what must hold when the world misbehaves; real processes, real files."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from nexa_infra.process import SystemRunner
from nexa_infra.storage.checkpoints import list_checkpoints
from nexa_infra.storage.layout import Tiers
from nexa_infra.storage.seal import verify_seal
from tests.cli.cli_process import Cli

SMALL = Path(__file__).with_name("small.yaml").read_text(encoding="utf-8")


def tiers_of(cli: Cli) -> Tiers:
    storage = cli.project.root / "storage"
    return Tiers(storage / "scratch", storage / "durable", storage / "shared")


def curve(cli: Cli, run_id: str) -> list[tuple[int, float]]:
    lines = cli.project.metrics(run_id).read_text().splitlines()
    return [(record["step"], record["loss"]) for record in map(json.loads, lines) if "loss" in record]


def train(cli: Cli, *arguments: str) -> dict[str, Any]:
    done = cli("launch", "small.yaml", "--json", "--wait", *arguments, timeout_s=300)
    assert done.returncode in (0, 1), done.stderr
    run: dict[str, Any] = json.loads(done.stdout)["runs"][0]
    return run


@pytest.fixture
def small(cli: Cli) -> Cli:
    cli.write("small.yaml", SMALL)
    return cli


def test_a_run_can_be_run_again_by_the_printed_commands_with_the_same_curve(small: Cli) -> None:
    first = train(small)
    assert first["state"] == "SUCCEEDED"
    small.write("small.yaml", SMALL.replace("1e-3", "5e-3"))  # what was launched does not depend on the file
    printed = small.ok("show", first["run_id"], "--reproduce").splitlines()
    commands = [line for line in printed if not line.startswith("#")]
    assert commands[0] == f"cd {small.project.root}"
    for line in commands[1:]:
        words = shlex.split(line)
        assert words[0] == "nexa"
        small.ok(*words[1:], timeout_s=300)
    again = small.json("runs")[0]["run_id"]
    assert again != first["run_id"]
    assert curve(small, again) == curve(small, first["run_id"])


def test_resume_names_a_damaged_checkpoint_and_takes_the_one_before(small: Cli) -> None:
    first = train(small)
    checkpoints = list_checkpoints(first["run_id"], tiers_of(small))
    assert [checkpoint.step for checkpoint in checkpoints] == [30, 20, 10]
    weights = next(checkpoints[0].path.glob("*.safetensors"))
    with weights.open("r+b") as stream:
        stream.seek(weights.stat().st_size // 2)
        stream.write(b"\x00\xff\x00\xff")
    cut = next(checkpoints[1].path.glob("optimizer*"))
    cut.write_bytes(cut.read_bytes()[:100])
    second = train(small, "--resume", first["run_id"], "--set", "training.max_steps=40")
    assert second["state"] == "SUCCEEDED"
    log = small.ok("logs", second["run_id"])
    assert "checkpoint-30" in log
    assert "checkpoint-20" in log
    record = json.loads(small.project.attempt(second["run_id"], 1).read_text())
    assert record["resumed_from"] == f"{first['run_id']} step 10"
    assert curve(small, second["run_id"])[0][0] > 10


def test_resume_of_a_run_without_checkpoints_is_refused(small: Cli) -> None:
    run_id = small.json("launch", "hello.yaml", "--wait")["runs"][0]["run_id"]
    done = small("launch", "small.yaml", "--resume", run_id)
    assert done.returncode == 2
    assert "found no checkpoint of this run" in done.stderr


def test_a_dataset_changed_since_it_was_registered_is_refused_by_name(small: Cli) -> None:
    small.write("rows.jsonl", "".join(json.dumps({"text": f"row {number}"}) + "\n" for number in range(50)))
    small.ok("data", "register", "rows.jsonl", "--name", "rows", "--origin", "made by a test", "--licence", "CC0-1.0")
    stored = next((tiers_of(small).datasets).glob("rows_v1*"))
    stored.chmod(0o644)
    stored.write_text(stored.read_text().replace("row 7", "row 8", 1))
    done = small("launch", "small.yaml", "--set", "data.dataset=rows")
    assert done.returncode == 1
    assert "rows_v1" in done.stderr
    assert stored.name in done.stderr
    assert small.json("runs") == []


def test_a_missing_dataset_names_the_nearest_one(small: Cli) -> None:
    done = small("launch", "small.yaml", "--set", "data.dataset=python_stdlb")
    assert done.returncode == 2
    assert "python_stdlb" in done.stderr
    assert small.json("runs") == []


def test_scratch_removed_while_training_loses_neither_the_model_nor_the_log(small: Cli) -> None:
    long = SMALL.replace("max_steps: 30", "max_steps: 2000").replace("every_steps: 10", "every_steps: 200")
    small.write("small.yaml", long)
    run_id = small.json("launch", "small.yaml")["submission"]
    wait_until(lambda: small.project.metrics(run_id).exists())
    shutil.rmtree(tiers_of(small).scratch)
    small("status", run_id, "--watch", timeout_s=300)
    outcome = json.loads(small.project.outcome(run_id).read_text())
    assert outcome["state"] == "SUCCEEDED", outcome["failure"]
    assert verify_seal(tiers_of(small).checkpoint(run_id)).run_id == run_id
    assert "step 2000/2000" in small.ok("logs", run_id)


def test_a_clock_set_back_breaks_nothing(cli: Cli) -> None:
    first = cli.json("launch", "hello.yaml", "--wait")["runs"][0]["run_id"]
    back = SystemRunner().run(
        ["faketime", "-3 days", *python_nexa(), "launch", "hello.yaml", "--json", "--wait"],
        timeout_s=120, cwd=cli.project.root, env=dict(os.environ),
    ).require_success()  # fmt: skip
    (run,) = json.loads(back.stdout)["runs"]
    assert run["state"] == "SUCCEEDED"
    assert 0 <= run["seconds"] < 60
    assert run["run_id"] < first
    assert {row["run_id"] for row in cli.json("runs")} == {first, run["run_id"]}


@pytest.mark.parametrize(
    ("options", "reason"),
    [("size=16m,ro", "read-only"), ("size=64k", "no space left")],
)
def test_a_durable_that_cannot_be_written_stops_the_launch_with_one_line(cli: Cli, options: str, reason: str) -> None:
    # In a mount namespace of its own, so that nothing of the machine is touched; needs root, as CI has.
    cli.ok("storage", "init")
    durable = tiers_of(cli).durable
    marker = durable / ".nexa-tier.json"
    cli.write("big.py", "x = '" + os.urandom(200_000).hex() + "'\n")
    script = 'cp "$1" /tmp/marker.$$ && mount -t tmpfs -o size=16m tmpfs "$2" && cp /tmp/marker.$$ "$1" && ' \
             'mount -o "remount,$3" "$2" && rm /tmp/marker.$$ && shift 3 && exec "$@"'  # fmt: skip
    done = SystemRunner().run(
        ["unshare", "-m", "sh", "-c", script, "sh", str(marker), str(durable), options,
         *python_nexa(), "launch", "hello.yaml"],
        timeout_s=120, cwd=cli.project.root, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert reason in done.stderr
    assert "durable" in done.stderr
    assert "Traceback" not in done.stderr
    assert cli.json("runs") == []


def python_nexa() -> list[str]:
    import sys

    return [sys.executable, "-m", "nexa_cli.main"]


def wait_until(holds: Any, *, deadline_s: float = 120.0) -> None:
    end = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.1)


def test_what_is_promoted_is_whole(small: Cli) -> None:
    run = train(small, "--set", "checkpoints.promote_every_steps=10")
    names = sorted(path.name for path in tiers_of(small).checkpoints.iterdir())
    assert names == [run["run_id"], *(f"{run['run_id']}_step_{step}" for step in (10, 20, 30))]
    for name in names:
        assert verify_seal(tiers_of(small).checkpoint(name)).run_id == run["run_id"]
    assert {"config.yaml", "logs.json"} <= {path.name for path in Path(tiers_of(small).checkpoint(names[0])).iterdir()}
