"""What a row of `slurm_faults.py` does: it makes steps, keeps its place, and swears to all of it in a file of its own.

`python slurm_faults_program.py EVIDENCE`. The evidence is written past everything that is under test: a line for each
start, step and end, with node, process, attempt and the monotonic clock, which all nodes of the cluster on one machine
share; and a lock on a file, which the kernel holds as long as the process lives.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

EVERY = 10
"""Steps between two checkpoints."""
STEP_S = 0.1
LEFT, DIVERGED, REFUSED = 75, 65, 2
SUCCEEDED, FAILED, CANCELLED = "SUCCEEDED", "FAILED", "CANCELLED"
KINDS = {
    "plain": SUCCEEDED,
    "deaf": SUCCEEDED,
    "crashes once": SUCCEEDED,
    "hangs once": SUCCEEDED,
    "crashes": FAILED,
    "diverges": FAILED,
    "refuses": FAILED,
    "cancelled": CANCELLED,
}
"""How each kind of row has to end. The deaf ones do not leave when they are asked."""
_SHARES = (120, 18, 16, 6, 12, 12, 6, 10)
_HOLD_S = 3600.0
_LONGER = 10
"""Times the steps of the others: a row that is to be cancelled is not done before."""


def describe_row(params: Mapping[str, Any]) -> tuple[str, int, int]:
    """Return the kind of a row, its number of steps, and the step at which something happens to it."""
    rng = random.Random(f"{params['seed']} {params['row']}")
    drawn = rng.choices(list(KINDS), _SHARES)[0]
    kind = str(params.get("kind", drawn))
    count = rng.randint(int(params["least"]), int(params["most"])) * (_LONGER if kind == "cancelled" else 1)
    return kind, count, rng.randint(count // 4, count // 2)


def digest_steps(row: int, steps: int) -> str:
    """Return what a row comes to when every step is made once, in order."""
    value = str(row)
    for step in range(1, steps + 1):
        value = take_step(value, step)
    return value


def take_step(value: str, step: int) -> str:
    """Return the next value."""
    return hashlib.sha256(f"{value} {step}".encode()).hexdigest()


class Row:
    """One start of one row."""

    def __init__(self, evidence: Path) -> None:
        self.run_id, self.attempt = os.environ["NEXA_RUN_ID"], int(os.environ["NEXA_ATTEMPT"])
        self.run_dir = Path(os.environ["NEXA_RUN_DIR"])
        params = json.loads(Path(os.environ["NEXA_RUN_CONFIG"]).read_bytes())["params"]
        self.row = int(params["row"])
        self.kind, self.steps, self.turn = describe_row(params)
        self.place = Path(os.environ["NEXA_SCRATCH_DIR"]) / "rows" / self.run_id
        self.lines, self.turned = evidence / f"{self.run_id}.jsonl", evidence / f"{self.run_id}.turned"
        self.lock = os.open(evidence / f"{self.run_id}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        self.step, self.value, self.saved = 0, str(self.row), 0
        self.is_asked = False
        self.told_s = time.monotonic()

    def run(self) -> int:
        """Make the steps; return the status to leave with."""
        signal.signal(signal.SIGTERM, self.hear)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.swear("twice")
        self.account("start", None)
        self.restore()
        self.swear("start", step=self.step)
        self.account("begin", self.step, "restore" if self.step else "startup")
        while self.step < self.steps:
            status = self.meet_fate()
            if status is not None:
                self.leave(status)
            time.sleep(STEP_S)
            self.step, self.value = self.step + 1, take_step(self.value, self.step + 1)
            self.swear("step", step=self.step)
            self.append("metrics.jsonl", {"attempt": self.attempt, "step": self.step})
            if self.step % EVERY == 0:
                self.save()
            if self.is_asked:
                self.save()
                self.leave(LEFT)
        self.swear("done", step=self.step, value=self.value)
        # Whoever was told to leave meanwhile says so that it was done all the same; status 0 alone could mean either.
        self.append(f"attempts/{self.attempt}.result.json", {"schema_version": 1, "exit_code": 0, "steps": self.step})
        self.account("end", self.step)
        return 0

    def meet_fate(self) -> int | None:
        """Do what the row's kind does at its step; return the status of one that leaves."""
        if self.step != self.turn or (self.kind.endswith(" once") and self.turned.exists()):
            return None
        self.turned.touch()
        if self.kind.startswith("crashes"):
            self.swear("crash", step=self.step)
            raise RuntimeError(f"row {self.row} crashes at step {self.step}")
        if self.kind == "hangs once":
            self.swear("hang", step=self.step)
            time.sleep(_HOLD_S)
        return {"diverges": DIVERGED, "refuses": REFUSED}.get(self.kind)

    def hear(self, _number: int, _frame: FrameType | None) -> None:
        """Note that it is to leave."""
        self.is_asked = self.kind != "deaf"

    def leave(self, status: int) -> NoReturn:
        """End before the work is done."""
        self.swear("left", step=self.step, status=status)
        self.account("end", self.step)
        sys.exit(status)

    def save(self) -> None:
        """Keep the place; a full disk is an error that ends this start."""
        if self.saved == self.step:
            return
        self.account("steps", self.step, "compute")
        self.place.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.place.with_suffix(f".{os.getpid()}")
        with temporary.open("w") as stream:
            json.dump({"step": self.step, "value": self.value, "room": "x" * 4096}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(self.place)
        self.saved = self.step
        self.swear("saved", step=self.step)
        self.account("save", self.step, "save")

    def restore(self) -> None:
        """Take up the place that was kept."""
        if self.place.exists():
            kept = json.loads(self.place.read_bytes())
            self.step, self.value = kept["step"], kept["value"]
            self.saved = self.step

    def swear(self, event: str, **more: Any) -> None:
        """Write a line of evidence."""
        line = {
            "event": event,
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "attempt": self.attempt,
            "restart": int(os.environ.get("SLURM_RESTART_COUNT", "0")),
            "monotonic_s": time.monotonic(),
            "at_s": time.time(),
            **more,
        }
        _append(self.lines, line)

    def account(self, event: str, step: int | None, bucket: str = "compute") -> None:
        """Say in the run's own events what the time since the last line was spent on."""
        now_s = time.monotonic()
        spent = {bucket: now_s - self.told_s}
        self.told_s = now_s
        moment = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.append(
            "events.jsonl",
            {"time": moment, "attempt": self.attempt, "event": event, "step": step, "seconds": spent},
        )

    def append(self, name: str, line: dict[str, Any]) -> None:
        """Add a line to one of the run's files."""
        _append(self.run_dir / name, line)


def _append(path: Path, line: dict[str, Any]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(descriptor, json.dumps(line).encode() + b"\n")
    os.close(descriptor)


if __name__ == "__main__":
    sys.exit(Row(Path(sys.argv[1])).run())
