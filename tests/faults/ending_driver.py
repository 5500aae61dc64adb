"""Runs that end while the disk of their records is full or read-only: `ending_driver FOLDER CASE`, see `namespace`."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nexa_contracts.clock import SystemClock
from nexa_infra.operations.backends import state_dir
from nexa_infra.scheduling.local_queue import LocalQueue
from nexa_infra.scheduling.process_tree import send_signal
from nexa_infra.scheduling.queued_job import Job
from nexa_infra.storage.layout import Project, Tiers
from nexa_infra.storage.tiers import init_tiers
from tests.cli.cli_process import Cli, end_supervisor
from tests.faults.namespace import fill, make_read_only, make_writable, mount_memory

DEADLINE_S = 120.0
WAITS = (
    "import pathlib, time\n"
    "pathlib.Path({started!r}).touch()\n"
    "while not pathlib.Path({go!r}).exists(): time.sleep(0.02)\n"
    "print('went')\n"
)


def main(folder: Path, case: str) -> None:
    os.environ["NEXA_STATE_DIR"] = str(folder / "state")
    disk = folder / "disk"
    mount_memory(disk, "16m")
    if case == "all full":
        os.environ["NEXA_STATE_DIR"] = str(disk / "state")
    tiers = disk / "tiers" if case in ("all full", "all read-only") else folder / "tiers"
    cli = make_project(disk / "project", tiers)
    try:
        said = CASES[case](cli, folder)
    finally:
        end_supervisor()
    print(json.dumps(said))


def make_project(root: Path, tiers: Path) -> Cli:
    root.mkdir(parents=True)
    named = Tiers(tiers / "scratch", tiers / "durable", tiers / "shared")
    init_tiers(named, clock=SystemClock())
    paths = f"{{scratch: {named.scratch}, durable: {named.durable}, shared: {named.shared}}}"
    (root / "nexa.yaml").write_text(f"project: tests\ntiers: {paths}\n")
    return Cli(Project(root))


def launch(cli: Cli, folder: Path, *, then: str = "", max_retries: int = 0) -> str:
    """The id of a run whose program waits for the file `go`."""
    code = WAITS.format(started=str(folder / "started"), go=str(folder / "go")) + then
    config = {"command": [sys.executable, "-c", code], "max_retries": max_retries}
    config["resources"] = {"walltime": "5m", "memory": "64MiB"}
    cli.write("run.yaml", json.dumps(config))
    run_id = str(cli.json("launch", "run.yaml")["submission"])
    wait_until((folder / "started").exists)
    return run_id


def end_while(cli: Cli, folder: Path, *, spoil: Callable[[], object], mend: Callable[[], object]) -> dict[str, Any]:
    """What is said of a run while its end cannot be recorded, and afterwards."""
    run_id = launch(cli, folder)
    spoil()
    (folder / "go").touch()
    wait_until(lambda: "cannot be recorded" in (status(cli)["reason"] or ""))
    looks = [status(cli)]
    time.sleep(1.0)
    looks.append(status(cli))
    return {"looks": looks, **conclude(cli, run_id, mend)}


def kill_entry_while_full(cli: Cli, folder: Path) -> dict[str, Any]:
    run_id = launch(cli, folder)
    wait_until(lambda: find_job(run_id).mark is not None)
    filler = fill(cli.project.root)
    mark = find_job(run_id).mark
    assert mark is not None
    send_signal(mark.pid, signal.SIGKILL)
    wait_until(lambda: "cannot be recorded" in (status(cli)["reason"] or ""))
    return conclude(cli, run_id, filler.unlink)


def retry_while_full(cli: Cli, folder: Path) -> dict[str, Any]:
    code = (
        f"import os\nos.chdir({str(cli.project.root)!r})\n"
        "if os.environ['NEXA_ATTEMPT'] == '1':\n"
        "    try: pathlib.Path('large').write_bytes(bytes(99_999))\n"
        "    finally: os.unlink('large')\n"
    )
    run_id = launch(cli, folder, then=code, max_retries=1)
    filler = fill(cli.project.root)
    os.truncate(filler, filler.stat().st_size - 32 * 1024)  # records fit, and nothing larger
    (folder / "go").touch()
    wait_until(lambda: (status(cli)["reason"] or "").startswith("waits for its disk"))
    return {"looks": [status(cli)], **conclude(cli, run_id, filler.unlink)}


def conclude(cli: Cli, run_id: str, mend: Callable[[], object]) -> dict[str, Any]:
    mended_at = datetime.now(UTC)
    mend()
    project = cli.project
    wait_until(project.outcome(run_id).exists)
    wait_until(lambda: find_job(run_id).state.is_final)
    ends = state_dir(os.environ).ends
    return {
        "mended_at": mended_at.isoformat(),
        "attempts": [read(path) for path in sorted(project.attempts(run_id).glob("?.json"))],
        "outcome": read(project.outcome(run_id)),
        "log": cli.ok("logs", run_id),
        "left": sorted(path.name for path in ends.iterdir()) if ends.exists() else [],
        "said": state_dir(os.environ).log.read_text(),
    }


def status(cli: Cli) -> dict[str, Any]:
    (run,) = cli.json("status")["runs"]
    return dict(run)


def find_job(run_id: str) -> Job:
    with LocalQueue(state_dir(os.environ).queue) as queue:
        return queue.find_runs([run_id])[run_id]


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def wait_until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not holds():
        if time.monotonic() > end_s:
            raise SystemExit("it did not come to pass")
        time.sleep(0.1)


def end_on_full_disk(cli: Cli, folder: Path) -> dict[str, Any]:
    disk = folder / "disk"
    return end_while(cli, folder, spoil=lambda: fill(disk), mend=(disk / "fill").unlink)


def end_on_the_one_full_disk(cli: Cli, folder: Path) -> dict[str, Any]:
    run_id = launch(cli, folder)
    filler = fill(folder / "disk")
    (folder / "go").touch()
    wait_until(cli.project.outcome(run_id).exists)
    return conclude(cli, run_id, filler.unlink)


def end_on_read_only_disk(cli: Cli, folder: Path) -> dict[str, Any]:
    disk = folder / "disk"
    return end_while(cli, folder, spoil=lambda: make_read_only(disk), mend=lambda: make_writable(disk))


CASES: dict[str, Callable[[Cli, Path], dict[str, Any]]] = {
    "project full": end_on_full_disk,
    "all full": end_on_the_one_full_disk,
    "all read-only": end_on_read_only_disk,
    "entry killed": kill_entry_while_full,
    "retried": retry_while_full,
}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
