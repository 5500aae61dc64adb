"""SQLite files that another program keeps locked, and that are not damaged: a bounded wait, a name, and no loss."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nexa_infra.operations.backends import state_dir
from nexa_infra.process import SystemRunner
from nexa_infra.scheduling.local_queue import LocalQueue
from nexa_infra.scheduling.process_tree import is_alive
from tests.cli.cli_process import Cli, end_supervisor
from tests.faults.ending_driver import wait_until

HOLDS = (
    "import sqlite3, sys\n"
    "connection = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)\n"
    "for statement in sys.argv[2].split(';'): connection.execute(statement).fetchall()\n"
    "print('held', flush=True)\n"
    "sys.stdin.readline()\n"
)
WRITING = "BEGIN IMMEDIATE"
ALONE = "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; CREATE TABLE held (a); SELECT * FROM held"


@contextmanager
def locked(path: Path, how: str) -> Iterator[int]:
    """Keep a database locked by another process within; its pid is given."""
    holder = SystemRunner().start([sys.executable, "-c", HOLDS, str(path), how], output="pipes", env=os.environ)
    try:
        assert holder.stdout.readline() == b"held\n"
        yield holder.pid
    finally:
        holder.close_input()
        assert holder.wait(60) == 0
        holder.close()


def queue_file() -> Path:
    return state_dir(os.environ).queue


def test_while_the_queue_is_locked_a_launch_names_the_holder_and_writes_no_run(cli: Cli) -> None:
    cli.ok("launch", "hello.yaml")
    with locked(queue_file(), WRITING) as pid:
        done = cli("launch", "hello.yaml")
        assert done.returncode == 1
        first, hint = done.stderr.splitlines()
        assert first.startswith(f"nexa: {queue_file()}: the local queue has been locked for 15 s by process {pid} (")
        assert hint == "nexa: hint: wait for that process or end it, and try again; running jobs go on meanwhile"
        (run,) = cli.json("runs")
    cli.ok("launch", "hello.yaml")
    assert [each["state"] for each in cli.json("runs")] == ["SUCCEEDED", "SUCCEEDED"]
    assert cli.json("runs")[1] == run


def test_the_supervisor_waits_out_a_lock_and_every_run_is_run_once(cli: Cli) -> None:
    root = cli.project.root
    code = (
        "import os, pathlib, time\n"
        f"os.chdir({str(root)!r})\n"
        "open('began', 'a').write('x')\n"
        "while not pathlib.Path('go').exists(): time.sleep(0.02)"
    )
    config = {"command": ["python3", "-c", code], "resources": {"walltime": "5m", "memory": "64MiB"}}
    cli.write("waits.yaml", json.dumps(config))
    cli.write("nexa.yaml", "project: tests\nlocal: {cpus: 1}\n")
    runs = [cli.json("launch", "waits.yaml")["submission"] for _ in range(2)]
    wait_until((root / "began").exists)
    with LocalQueue(queue_file()) as queue:
        supervisor = queue.find_supervisor()
        wait_until(lambda: queue.find_runs(runs[:1])[runs[0]].mark is not None)
    log = state_dir(os.environ).log
    with locked(queue_file(), WRITING):
        (root / "go").touch()
        wait_until(lambda: "queue cannot be used now, waiting" in log.read_text())
    wait_until(lambda: all(cli.project.outcome(run_id).exists() for run_id in runs))
    assert {run["state"] for run in cli.json("runs")} == {"SUCCEEDED"}
    assert (root / "began").read_text() == "xx"
    assert supervisor is not None
    assert is_alive(supervisor)


def test_while_the_queue_cannot_be_read_what_the_runs_own_files_say_is_shown(cli: Cli) -> None:
    config = {"command": ["sleep", "600"], "resources": {"walltime": "15m", "memory": "64MiB"}}
    cli.write("sleeps.yaml", json.dumps(config))
    run_id = cli.json("launch", "sleeps.yaml")["submission"]
    with LocalQueue(queue_file()) as queue:
        wait_until(lambda: queue.find_runs([run_id])[run_id].mark is not None)
        supervisor = queue.find_supervisor()
    assert supervisor is not None
    end_supervisor()
    wait_until(lambda: not is_alive(supervisor))
    with locked(queue_file(), ALONE) as pid:
        done = cli("status", run_id)
        assert done.returncode == 0
        assert done.stdout.startswith(f"{run_id}: UNKNOWN (the backend cannot be asked now)\n")
        (warning,) = done.stderr.splitlines()
        assert f"locked for 15 s by process {pid} (" in warning
    assert cli.json("status", run_id)["runs"][0]["state"] == "RUNNING"
    cli.ok("cancel", run_id)


def test_runs_are_listed_while_the_index_is_locked(cli: Cli) -> None:
    cli.ok("launch", "hello.yaml")
    (run,) = cli.json("runs")
    with locked(cli.project.index, WRITING) as pid:
        cli.ok("launch", "hello.yaml", "-d")
        done = cli("runs", "--json")
        newest, first = json.loads(done.stdout)
        assert (first["run_id"], newest["run_id"] > run["run_id"]) == (run["run_id"], True)
        (warning,) = done.stderr.splitlines()
        assert warning.startswith(f"index is locked by process {pid} (")
    assert len(cli.json("runs")) == 2
