"""`nexa launch` and what follows a run, on the real local backend."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nexa_contracts.run import RunManifest
from nexa_infra.process import Completed, SystemRunner
from nexa_infra.storage.manifests import find_cost, read_outcome, read_run_manifest
from tests.cli.cli_process import HELLO, Cli

SECRET = "correct-horse-battery-staple"


def test_a_dry_run_prints_plan_and_cost_and_touches_nothing(
    cli: Cli, tree_digest: Callable[[Path], dict[str, bytes]]
) -> None:
    before = tree_digest(cli.project.root.parent)
    shown = cli.ok("launch", "hello.yaml", "--dry-run")
    assert "1 run planned on local" in shown
    assert "at most 0.0007 USD" in shown
    assert tree_digest(cli.project.root.parent) == before


def test_a_run_leaves_manifest_outcome_cost_and_log(cli: Cli) -> None:
    launched = cli.json("launch", "hello.yaml", "--wait")
    (run,) = launched["runs"]
    run_id = run["run_id"]
    assert run["state"] == "SUCCEEDED"
    manifest = read_run_manifest(cli.project, run_id)
    assert manifest.command[0] == "python3"
    assert manifest.environment.packages["pydantic"]
    assert manifest.code.snapshot_files == 2
    assert read_outcome(cli.project, run_id).attempts == 1
    cost = find_cost(cli.project, run_id)
    assert cost is not None
    assert cost.total is not None
    assert cost.total == pytest.approx(cost.seconds / 3600 * 0.044625)
    assert cli.ok("logs", run_id) == f"hello from {run_id}\n"
    durable = cli.project.root / "storage" / "durable" / "manifests"
    assert {path.name for path in durable.glob("*run_*")} == {
        f"{run_id}.json", f"outcome_{run_id}.json", f"cost_{run_id}.json"
    }  # fmt: skip


def test_overrides_are_typed_and_recorded(cli: Cli) -> None:
    run_id = cli.json("launch", "hello.yaml", "--set", "tags.team=vision", "--set", "max_retries=0")["submission"]
    manifest = read_run_manifest(cli.project, run_id)
    assert manifest.config.tags == {"team": "vision"}
    assert manifest.config.max_retries == 0
    assert manifest.overrides == {"tags.team": "vision", "max_retries": "0"}


def test_a_failed_run_exits_1_and_shows_the_telling_line(cli: Cli) -> None:
    cli.write("fails.yaml", HELLO.replace("import os;", "raise ValueError('out of cheese');"))
    done = cli("launch", "fails.yaml", "--set", "max_retries=0")
    assert done.returncode == 1
    assert "ValueError: out of cheese" in done.stdout
    assert "Traceback" not in done.stderr


def test_detach_returns_while_the_run_goes_on_and_cancel_ends_it(cli: Cli) -> None:
    cli.write("long.yaml", HELLO.replace("import os;", "import os, time; time.sleep(600);"))
    run_id = cli.json("launch", "long.yaml")["submission"]
    assert cli.json("status", run_id)["is_final"] is False
    assert cli.ok("cancel", run_id) == f"{run_id}: CANCELLED\n"
    assert cli.ok("cancel", run_id) == "nothing to end: every run has ended\n"
    assert cli.json("runs", "--where", "state=CANCELLED")[0]["run_id"] == run_id


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_closing_the_terminal_or_an_interrupt_ends_the_watching_and_not_the_run(
    cli: Cli, tmp_path: Path, number: signal.Signals
) -> None:
    cli.write("long.yaml", HELLO.replace("import os;", "import os, time; time.sleep(4);"))
    argv = [sys.executable, "-m", "nexa_cli.main", "launch", "long.yaml"]
    # nohup, and a shell's background, have signals ignored by all that is started there; here they must arrive.
    before = signal.signal(number, signal.SIG_DFL) if number is not signal.SIGKILL else None
    watching = SystemRunner().start(argv, output=tmp_path / "screen", cwd=cli.project.root)
    if before is not None:
        signal.signal(number, before)
    deadline_s = time.monotonic() + 60
    while "RUNNING" not in (tmp_path / "screen").read_text():
        assert time.monotonic() < deadline_s, "the run did not start"
        time.sleep(0.05)
    watching.send_signal(number)
    status = watching.wait(30)
    assert status == (130 if number is signal.SIGINT else -number)
    cli.ok("status", "last", "--watch")
    assert cli.json("runs")[0]["state"] == "SUCCEEDED"


def test_two_launches_at_once_are_two_runs(cli: Cli) -> None:
    done: list[Completed] = []
    threads = [threading.Thread(target=lambda: done.append(cli("launch", "hello.yaml", "--json"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [item.returncode for item in done] == [0] * 4, done
    assert len({json.loads(item.stdout)["submission"] for item in done}) == 4


def test_a_secret_reaches_the_job_and_no_file(cli: Cli) -> None:
    program = "import os; print('length', len(os.environ['API_TOKEN'])); print(os.environ['API_TOKEN'])"
    cli.write(
        "secret.yaml", f'command: [python3, -c, "{program}"]\nsecrets: [API_TOKEN]\nresources: {{memory: 64MiB}}\n'
    )
    cli.ok("launch", "secret.yaml", env={"API_TOKEN": SECRET})
    shown = cli.ok("logs", "last")
    assert f"length {len(SECRET)}" in shown
    assert SECRET not in shown
    files = [path for path in cli.project.root.parent.rglob("*") if path.is_file()]
    holding = [path for path in files if "logs_temp" not in path.parts and SECRET.encode() in path.read_bytes()]
    assert holding == []


def test_a_named_secret_that_is_not_set_is_refused(cli: Cli) -> None:
    cli.write("secret.yaml", "command: [env]\nsecrets: [API_TOKEN]\n")
    done = cli("launch", "secret.yaml")
    assert done.returncode == 3
    assert "API_TOKEN is named under secrets but not set" in done.stderr


def test_a_later_edit_does_not_reach_a_queued_run(cli: Cli) -> None:
    cli.write("work.py", "print('first')\n")
    cli.write("work.yaml", f"command: [{sys.executable}, work.py]\nresources: {{memory: 64MiB}}\n")
    blocker = cli.write("block.yaml", HELLO.replace("import os;", "import os, time; time.sleep(3);"))
    for _ in range(3):  # more than the machine's cores, so that the next one waits
        cli.ok("launch", blocker.name, "--detach")
    cli.ok("launch", "work.yaml", "--detach")
    cli.write("work.py", "print('second')\n")
    cli.ok("status", "last", "--watch")
    assert cli.ok("logs", "last") == "first\n"


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["launch", "nosuch.yaml"], 2, "nosuch.yaml: no such file"),
        (["launch", "hello.yaml", "--set", "resorces.cpus=2"], 2, "did you mean resources?"),
        (["launch", "hello.yaml", "--set", "nonsense"], 2, "found no key=value"),
        (["launch", "hello.yaml", "--backend", "cloud"], 2, "backend: found 'cloud'; allowed: local"),
        (["launch", "hello.yaml", "--resume", "run_20000101_000000_aaaa"], 2, "no such run"),
        (["launch", "hello.yaml", "--set", "resources.cpus=4000"], 2, "4000"),
        (["launch", "hello.yaml", "--set", "name=../../etc"], 2, "name: found '../../etc'"),
        (["show", "../../etc/passwd"], 2, "no such run"),
        (["sweep"], 2, "give exactly one of FILE and --resume SWEEP"),
        (["sweep", "hello.yaml"], 2, "found a run config; allowed: a sweep, with axes"),
        (["runs", "--where", "stat=FAILED"], 2, "did you mean state?"),
        (["lanch"], 2, "did you mean launch?"),
        (["cost", "summary", "--by", "moon"], 2, "--by: found 'moon'"),
    ],
)
def test_a_wrong_request_is_one_clear_line(cli: Cli, arguments: list[str], code: int, line: str) -> None:
    done = cli(*arguments)
    assert done.returncode == code, done.stderr
    assert line in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_show_tells_what_a_person_asks(cli: Cli) -> None:
    run_id = cli.json("launch", "hello.yaml", "--wait")["runs"][0]["run_id"]
    shown = cli.ok("show", run_id)
    for word in ("SUCCEEDED", "snapshot", "packages", "python3 -c", "cost", "hello.yaml"):
        assert word in shown
    assert RunManifest.model_validate(cli.json("show", run_id)["manifest"], strict=False).run_id == run_id


def test_compare_names_what_differs(cli: Cli) -> None:
    first = cli.json("launch", "hello.yaml", "--wait")["runs"][0]["run_id"]
    second = cli.json("launch", "hello.yaml", "--wait", "--set", "max_retries=7")["runs"][0]["run_id"]
    found = {item["key"]: item["values"] for item in cli.json("compare", first, second)["differences"]}
    assert found["max_retries"] == [1, 7]
    assert "command" not in found


def test_json_is_all_that_stands_on_stdout_whatever_a_program_says_of_itself(cli: Cli) -> None:
    said = '{"step": 1, "loss": NaN, "tokens_per_s": 1e999}\\n{"step": 1' + "0" * 30 + "}\\n"
    code = f"import os; open(os.environ['NEXA_RUN_DIR'] + '/metrics.jsonl', 'w').write('{said}')"
    cli.write("odd.yaml", json.dumps({"command": ["python3", "-c", code], "resources": {"memory": "64MiB"}}))
    cli.ok("launch", "odd.yaml", "--detach")
    text = cli.ok("status", "--watch", "--json")
    (run,) = json.loads(text, parse_constant=pytest.fail)["runs"]
    assert run["state"] == "SUCCEEDED"
    assert (run["progress"]["step"], run["progress"]["loss"], run["progress"]["tokens_per_s"]) == (1, None, None)
    assert "loss" in cli.ok("status")
    cli.ok("leaderboard", "--plot", "--no-write")


def test_a_shell_is_offered_commands_and_runs(cli: Cli) -> None:
    run_id = cli.json("launch", "hello.yaml", "--wait")["runs"][0]["run_id"]
    assert "_NEXA_COMPLETE" in cli.ok("completion", "bash")
    asked = {"_NEXA_COMPLETE": "bash_complete", "COMP_WORDS": "nexa show run_", "COMP_CWORD": "2"}
    assert cli.ok(env=asked) == f"plain,{run_id}\n"
    asked = {"_NEXA_COMPLETE": "bash_complete", "COMP_WORDS": "nexa lau", "COMP_CWORD": "1"}
    assert cli.ok(env=asked) == "plain,launch\n"
