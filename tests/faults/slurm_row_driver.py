"""A job on Slurm whose scratch is full for a while: `slurm_row_driver FOLDER CASE`, see `namespace`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import read_attempts, read_outcome
from nexa_infra.testing.backend import make_entry, make_request
from tests.faults.namespace import fill, mount_memory
from tests.scheduling.slurm_job import end, make_job

DEADLINE_S = 120.0
WRITES = """
import os, pathlib, time
if os.environ['NEXA_ATTEMPT'] == '1':
    pathlib.Path({started!r}).touch()
    while not pathlib.Path({full!r}).exists(): time.sleep(0.02)
    (pathlib.Path(os.environ['NEXA_SCRATCH_DIR']) / 'place').write_bytes(bytes(99_999))
"""


def main(folder: Path, case: str) -> None:
    scratch, started, full = folder / "scratch", folder / "started", folder / "full"
    mount_memory(scratch, "4m")
    code = WRITES.format(started=str(started), full=str(full)) if case == "while it runs" else ""
    job = make_job(folder, make_request(folder, *[""] * 3, code, max_retries=1))
    filler = fill(scratch) if case == "before it starts" else None
    child = job.start("--offset", "0")
    if filler is None:
        wait_for(started)
        filler = fill(scratch)
        full.touch()
    while "waits for its disk" not in (folder / "slurm.out").read_text():
        time.sleep(0.05)
    time.sleep(3.0)  # longer than it takes to use up a retry
    filler.unlink()
    status = end(child)
    run_id = make_entry(folder, "", index=3).run_id
    attempts = [attempt.state for attempt in read_attempts(Project(folder), run_id)]
    print(json.dumps({"status": status, "state": read_outcome(Project(folder), run_id).state, "attempts": attempts}))


def wait_for(path: Path) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not path.exists() and time.monotonic() < end_s:
        time.sleep(0.02)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
