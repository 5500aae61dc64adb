"""`nexa show` says where the time went, `nexa plan-checkpoints` how often to save and what each choice costs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.cli.cli_process import Cli

LARGE = ["--save-seconds", "30", "--mttf", "264d", "--nodes", "2048", "--restart-seconds", "600"]
TOLD = """
import json, os
from datetime import datetime, timedelta, UTC
now = datetime.now(UTC)
def tell(name, step, **seconds):
    line = {"time": now.isoformat(), "attempt": 1, "event": name, "step": step, "seconds": seconds}
    print(json.dumps(line), file=open(os.environ["NEXA_RUN_DIR"] + "/events.jsonl", "a"))
tell("start", None)
tell("begin", 0)
tell("save", 100, compute=0.010, save=0.001)
tell("end", 100)
"""


def launch(cli: Cli, code: str, **more: object) -> str:
    config = {"name": "told", "command": ["python3", "-c", code], "resources": {"memory": "64MiB"}, **more}
    cli.write("told.yaml", json.dumps(config))
    return str(json.loads(cli("launch", "told.yaml", "--wait", "--json").stdout)["submission"])


def test_show_says_where_the_time_of_a_run_went(cli: Cli) -> None:
    run_id = launch(cli, TOLD)
    told = cli.json("show", run_id)["goodput"]
    assert told["seconds"]["compute"] == pytest.approx(0.010)
    assert told["seconds"]["save"] == pytest.approx(0.001)
    assert sum(told["seconds"].values()) == pytest.approx(told["wall_s"])
    assert told["goodput"] == pytest.approx(0.010 / told["wall_s"])
    assert (told["saves"], told["save_s"], told["step_s"]) == (1, pytest.approx(0.001), pytest.approx(0.0001))
    shown = cli.ok("show", run_id).splitlines()
    section = shown[shown.index("goodput") + 1 :]
    assert section[0].split()[0] == "goodput"
    assert {"start-up", "compute", "save", "waiting"} <= {line.split()[0] for line in section if line.strip()}


def test_a_program_that_tells_nothing_has_an_unknown_goodput(cli: Cli) -> None:
    run_id = launch(cli, "pass")
    assert cli.json("show", run_id)["goodput"]["goodput"] is None
    assert "unknown: the program tells no events" in cli.ok("show", run_id)


def test_events_that_are_no_events_hide_nothing_else(cli: Cli) -> None:
    run_id = launch(cli, "pass")
    cli.project.run_dir(run_id).events.write_bytes(b'\xff\n{"attempt": []}\n[1]\n{"event"')
    assert cli.json("show", run_id)["outcome"]["state"] == "SUCCEEDED"
    assert "SUCCEEDED" in cli.ok("show", run_id)


def test_given_numbers_make_a_plan_that_says_what_each_choice_costs(cli: Cli) -> None:
    plan = cli.json("plan-checkpoints", *LARGE)
    lost = {choice["name"]: choice["lost"] for choice in plan["choices"]}
    assert lost.keys() == {"half", "recommended", "double"}
    assert lost["recommended"] == min(lost.values())
    assert plan["mttf_s"] == pytest.approx(264 * 86_400 / 2048)
    assert plan["is_enough_evidence"] is True
    assert "save every 13m 18s of training" in cli.ok("plan-checkpoints", *LARGE)


def test_a_run_gives_the_time_of_a_save_and_of_a_step_and_the_project_the_rate(cli: Cli) -> None:
    run_id = launch(cli, TOLD, checkpoints={"every_steps": 50})
    done = cli("plan-checkpoints", run_id)
    assert done.returncode == 0, done.stderr
    assert "too little evidence: 0 failures in" in done.stderr
    assert "the mean of 1 save" in done.stdout
    assert "checkpoints.every_steps" in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()[-4:]] == ["half", "recommended", "double", "current"]
    together = subprocess.run(
        [sys.executable, "-m", "nexa_cli.main", "plan-checkpoints", run_id],
        cwd=cli.project.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True,
    )  # fmt: skip
    assert together.stdout.startswith("too little evidence")  # before figures that it makes doubtful
    plan = cli.json("plan-checkpoints", run_id)
    assert (plan["fleet"]["failures"], plan["is_enough_evidence"]) == (0, False)
    current = next(choice for choice in plan["choices"] if choice["name"] == "current")
    assert current["interval_s"] == pytest.approx(50 * plan["step_s"])


def test_attempts_that_were_cut_off_are_counted_and_those_that_failed_by_themselves_are_not(cli: Cli) -> None:
    launch(cli, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", max_retries=1)
    launch(cli, "raise ValueError", max_retries=1)
    fleet = cli.json("plan-checkpoints", "--save-seconds", "1")["fleet"]
    assert fleet["failures"] == 2
    assert fleet["node_hours"] > 0


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        ([], 2, "found neither RUN nor --save-seconds"),
        (["--save-seconds", "1"], 3, "no attempt of this project has ended"),
        (["--save-seconds", "0"], 2, "0"),
        (["--save-seconds", "inf", "--mttf", "1d"], 2, "allowed: a finite number of seconds"),
        (["--save-seconds", "nan", "--mttf", "1d"], 2, "nan"),
        (["--save-seconds", "1", "--mttf", "1y"], 2, "--mttf: found '1y'; allowed: a duration"),
        (["run_nope"], 2, "run_nope"),
    ],
)
def test_what_is_missing_or_wrong_is_named(cli: Cli, arguments: list[str], status: int, told: str) -> None:
    done = cli("plan-checkpoints", *arguments)
    assert done.returncode == status
    assert told in done.stderr


def test_a_run_that_saved_nothing_cannot_say_how_long_a_save_takes(cli: Cli) -> None:
    run_id = launch(cli, "pass")
    done = cli("plan-checkpoints", run_id)
    assert done.returncode == 3
    assert f"{run_id}: no checkpoint was saved and timed" in done.stderr
    assert "--save-seconds" in done.stderr
