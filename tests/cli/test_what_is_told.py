"""What a person reads of runs and sweeps: the same of one run everywhere, and nothing that does not apply."""

from __future__ import annotations

import json
import os
import time

import pytest

from nexa_cli.launching import waits
from nexa_infra.process import SystemRunner
from tests.cli.cli_process import Cli

FIT = (
    "import json, os\n"
    "run = os.environ['NEXA_RUN_DIR']\n"
    "print(json.dumps({'step': 5, 'loss': 1.25}), file=open(run + '/metrics.jsonl', 'a'))\n"
    "json.dump({'metrics': {'eval_loss': 2.5}}, open(run + '/attempts/1.result.json', 'w'))\n"
)
FAILS = "import os; x = os.environ['X']; assert x != '2', 'two'"


def write_run(cli: Cli, name: str, code: str, **more: object) -> str:
    config = {"name": name, "command": ["python3", "-c", code], "resources": {"memory": "64MiB"}, **more}
    cli.write(f"{name}.yaml", json.dumps(config))
    return f"{name}.yaml"


def write_sweep(cli: Cli) -> str:
    write_run(cli, "fails", FAILS, max_retries=0)
    sweep = {"name": "mine", "base": "fails.yaml", "axes": {"env.X": {"values": ["1", "2"]}}}
    cli.write("mine.yaml", json.dumps(sweep))
    return "mine.yaml"


def test_the_loss_of_a_program_of_ones_own_is_the_same_in_every_view(cli: Cli) -> None:
    run_id = cli.json("launch", write_run(cli, "fit", FIT), "--wait")["submission"]
    (row,) = cli.json("runs")
    assert row["metrics"] == {"loss": 1.25, "eval_loss": 2.5}
    for command in (["status", run_id], ["runs"], ["show", run_id]):
        assert "1.25" in cli.ok(*command)


def test_what_a_run_does_not_have_is_left_out(cli: Cli) -> None:
    printed = cli.ok("launch", "hello.yaml")
    assert not [line for line in printed.splitlines() if line.split()[:1] in (["step"], ["loss"], ["tokens/s"])]


def test_a_program_that_refuses_its_arguments_is_quoted_in_the_headline(cli: Cli) -> None:
    cli.write("refused.yaml", json.dumps({"command": ["python3", "nowhere.py"], "resources": {"memory": "64MiB"}}))
    printed = cli("launch", "refused.yaml").stdout
    (failure,) = [line for line in printed.splitlines() if line.split()[:1] == ["failure"]]
    assert "can't open file" in failure
    assert "(status 2)" in failure


def test_a_failed_sweep_is_told_in_one_line_a_run_with_its_values_and_where_to_look(cli: Cli) -> None:
    done = cli("sweep", write_sweep(cli))
    assert done.returncode == 1
    assert "    " not in [line[:4] for line in done.stdout.splitlines()]
    (failed,) = [line.split(":")[0] for line in done.stdout.splitlines() if "FAILED:" in line]
    assert f"nexa logs {failed}" in done.stdout
    status = cli.ok("status").splitlines()
    assert status[1].split()[:3] == ["run", "X", "state"]
    assert status[2].split()[1] == "1"
    assert "    Traceback (most recent call last):" in status


def test_sweeps_are_listed_shown_and_named_beside_their_runs(cli: Cli) -> None:
    cli("sweep", write_sweep(cli))
    (sweep,) = cli.json("sweeps")
    assert (sweep["name"], sweep["runs"], sweep["counts"]) == ("mine", 2, {"SUCCEEDED": 1, "FAILED": 1})
    assert "1 succeeded, 1 failed" in cli.ok("sweeps") or "1 failed, 1 succeeded" in cli.ok("sweeps")
    header, first = cli.ok("runs").splitlines()[:2]
    assert header.split()[:3] == ["run", "name", "sweep"]
    assert first.split()[2] == "mine"
    shown = cli.ok("show", sweep["sweep_id"])
    assert "env.X" in shown
    assert "from" in shown
    assert cli.json("show", sweep["sweep_id"])["manifest"]["count"] == 2
    assert "`nexa sweeps` lists them" in cli("status", "sweep_2").stderr + cli("status", "sweep_nope").stderr


@pytest.mark.parametrize("command", [["status"], ["show"], ["logs"], ["leaderboard", "last"]])
def test_in_an_empty_project_it_is_said_how_to_begin(cli: Cli, command: list[str]) -> None:
    done = cli(*command)
    assert done.returncode == 2
    assert "has been launched in" in done.stderr
    assert "FILE" in done.stderr


def test_a_new_project_is_ready_and_doctor_says_so(cli: Cli) -> None:
    (tiers,) = [check for check in cli.json("doctor") if check["name"] == "tiers"]
    assert (tiers["health"], tiers["hint"]) == ("ok", None)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["runs", "--sort", "nope"], "--sort: unknown field nope; allowed: run,"),
        (["compare", "last"], "found one run, last"),
        (["launch", "hello.yaml", "--wait", "--detach"], "found --wait and --detach; allowed: one of them"),
        (["sweep", "hello.yaml", "--wait", "--detach"], "found --wait and --detach; allowed: one of them"),
        (["launch", "hello.yaml", "--code", "abc"], "--code: found 'abc'"),
    ],
)
def test_a_mistake_is_named_as_it_was_typed(cli: Cli, arguments: list[str], told: str) -> None:
    done = cli(*arguments)
    assert done.returncode == 2
    assert told in done.stderr


def test_a_command_waits_where_a_run_begins_soon_or_where_it_is_asked_to() -> None:
    asked = [
        (is_far, wait, detach, as_json)
        for is_far in (False, True) for wait, detach in ((False, False), (True, False), (False, True))
        for as_json in (False, True)
    ]  # fmt: skip
    waiting = [each for each in asked if waits(is_far=each[0], wait=each[1], detach=each[2], as_json=each[3])]
    assert [each for each in waiting if not each[1]] == [(False, False, False, False)]
    assert len([each for each in waiting if each[1]]) == 4


def test_waiting_can_be_asked_for_without_json(cli: Cli) -> None:
    assert "SUCCEEDED" in cli.ok("launch", "hello.yaml", "--wait")


def test_a_dry_run_prints_a_command_that_can_be_pasted(cli: Cli) -> None:
    assert "0: python3 -c 'import os; print(" in cli.ok("launch", "hello.yaml", "--dry-run")


def test_a_cancelled_sweep_is_named_with_the_number_of_its_runs(cli: Cli) -> None:
    write_run(cli, "long", "import time; time.sleep(600)")
    cli.write("long_sweep.yaml", json.dumps({"base": "long.yaml", "axes": {"params.x": {"values": [1, 2]}}}))
    sweep_id = cli.json("sweep", "long_sweep.yaml")["submission"]
    assert f"{sweep_id}: would end 2 runs of 2" in cli.ok("cancel", "last", "--dry-run")
    assert f"{sweep_id}: ending 2 runs of 2" in cli.ok("cancel", "last")


def test_a_run_of_a_recorded_snapshot_keeps_its_commit_and_is_no_other_code(cli: Cli) -> None:
    root = cli.project.root
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "one"]):
        SystemRunner().run(["git", "-C", str(root), *words], timeout_s=60, env=dict(os.environ)).require_success()
    first = cli.json("launch", "hello.yaml", "--wait")["submission"]
    code = cli.json("show", first)["manifest"]["code"]
    assert code["commit"] is not None
    cli.write("more.py", "x = 1\n")
    second = cli.json("launch", f"runs/{first}/config.json", "--code", code["snapshot"][:16], "--wait")["submission"]
    again = cli.json("show", second)["manifest"]["code"]
    assert again == code | {"taken_for": first}
    differences = cli.json("compare", first, second)["differences"]
    assert [item for item in differences if item["section"] == "code"] == []
    seconds = next(item["values"] for item in differences if item["key"] == "seconds")
    assert all(isinstance(value, float) for value in seconds)


def test_a_run_that_waits_is_told_what_for(cli: Cli) -> None:
    cli.write("nexa.yaml", "project: tests\nlocal: {cpus: 1}\n")
    write_run(cli, "long", "import time; time.sleep(600)")
    first, second = (cli.json("launch", "long.yaml")["submission"] for _ in range(2))
    told: set[str | None] = set()
    deadline_s = time.monotonic() + 60
    while told != {None, "waits for 1 core; 1 of 1 in use"} and time.monotonic() < deadline_s:
        told = {run["reason"] for run_id in (first, second) for run in cli.json("status", run_id)["runs"]}
    assert told == {None, "waits for 1 core; 1 of 1 in use"}
    assert f"{second}: PENDING (waits for 1 core; 1 of 1 in use)" in cli.ok("status")
    cli.ok("cancel", first, second)
