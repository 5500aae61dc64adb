"""Submission of a sweep of 1,000 rows to a real Slurm, from the command's start until Slurm has answered:
`python benchmarks/slurm_submission.py [--rounds N]`.

Beside ours, in turn and on the same cluster: one bare `sbatch --array` of as many tasks, submitit's `map_array` of the
same rows, torchx and NeMo-Run, which know no arrays and submit row by row: of fewer rows, scaled to 1,000. Where a way
is a call from Python, the call alone is told too, without the start of the process. Every node is busy, so that nothing
that was submitted runs while the next is measured. Needs root, and Debian's packages of Slurm.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from figures import write_figures
from peers import install_peer
from slurm_bench import DRIVERS, NEXA, Used, brought_up, clear_queue, make_environment, measure, occupy

from tests.cluster.slurm_cluster import Shape, SlurmCluster

ROWS = 1_000
BARE, OURS = "sbatch --array", "nexa sweep"
MOST_TIMES, MOST_MORE_S = 1.3, 0.5
"""Of a bare sbatch, and besides: what our whole command may take."""
SWEEP = f"""\
run:
  command: ["true"]
  resources: {{memory: 64MiB, walltime: 10m}}
axes:
  params.row: {{int: [1, {ROWS}]}}
"""
PROGRAM = "print('a program of the project')\n"


@dataclass(frozen=True, slots=True)
class Turn:
    """One way to submit rows."""

    rows: int
    command: list[str]
    fails_after: bool = False
    """It ends badly after it has submitted, on a cluster without accounting."""
    seen: list[Used] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)
    """Seconds of the call alone, as the driver took them."""


def main() -> int:
    """Measure in turn, print and write the figures; return 1 when ours takes longer than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peers", nargs="*", default=["submitit", "torchx", "NeMo-Run"])
    arguments = parser.parse_args()
    pythons = {name: python for name in arguments.peers if (python := install_peer(name)) is not None}
    shape = Shape(nodes=1, cpus=2, gpus=0, extra=("MinJobAge=10",))
    with tempfile.TemporaryDirectory(prefix="nxb-") as folder, brought_up(shape) as cluster:
        root = Path(folder)
        occupy(cluster, root)
        turns = make_turns(root, pythons)
        for number in range(arguments.rounds + 1):
            for name, turn in turns.items():
                used, call_s = run_turn(cluster, root, turn)
                print(f"{number:3} {name:28} {turn.rows:5} rows {used.wall_s:8.3f} s  {used.cpu_s:8.3f} s CPU")
                if number > 0:  # the first one warms the file cache, and takes the snapshot of the code
                    turn.seen.append(used)
                    turn.calls.extend([] if call_s is None else [call_s])
    rows = {name: describe(turn, turns[BARE]) for name, turn in turns.items()}
    for name, row in rows.items():
        print(f"{name:28} {row['wall_s_per_1000_rows']:8.2f} s for 1,000 rows, {row['times_bare']:8.1f} × bare sbatch")
    allowed_s = MOST_TIMES * rows[BARE]["wall_s_median"] + MOST_MORE_S
    is_reached = rows[OURS]["wall_s_median"] <= allowed_s
    took_s = rows[OURS]["wall_s_median"]
    print(f"{OURS}: {took_s:.3f} s; allowed: {allowed_s:.3f} s ({MOST_TIMES} × bare + {MOST_MORE_S} s)")
    whole = {
        "rounds": arguments.rounds,
        "load_average": round(os.getloadavg()[1], 2),
        "target": {"allowed_s": round(allowed_s, 3), "is_reached": is_reached},
        "ways": rows,
    }
    write_figures("slurm_submission", whole)
    return 0 if is_reached else 1


def make_turns(root: Path, pythons: Mapping[str, Path]) -> dict[str, Turn]:
    """Return every way to submit, in the order of their turns."""
    script = root / "row.sh"
    script.write_text("#!/bin/sh\ntrue\n")
    project = root / "project"
    project.mkdir()
    for name, text in (("nexa.yaml", "project: bench\n"), ("sweep.yaml", SWEEP), ("program.py", PROGRAM)):
        (project / name).write_text(text)
    options = [f"--array=0-{ROWS - 1}", "--mem=64M", "--time=10", "--cpus-per-task=1", f"--output={root}/%A_%a.out"]
    turns = {
        BARE: Turn(ROWS, ["sbatch", *options, str(script)]),
        OURS: Turn(ROWS, [NEXA, "sweep", "sweep.yaml", "--backend", "slurm", "--submit"]),
        "launch_slurm_sweep": Turn(ROWS, [sys.executable, str(DRIVERS / "nexa_driver.py"), "rows", "sweep.yaml", "."]),
    }
    if "submitit" in pythons:
        driver = [str(pythons["submitit"]), str(DRIVERS / "submitit_driver.py"), "rows"]
        turns["submitit map_array"] = Turn(ROWS, [*driver, str(ROWS), str(root / "submitit")])
    if "torchx" in pythons:
        program = str(pythons["torchx"].with_name("torchx"))
        words = ["run", "--scheduler", "slurm", "--scheduler_args", "time=10", "utils.sh", "--memMB", "64", "true"]
        turns["torchx run"] = Turn(1, [program, *words], fails_after=True)
        driver = [str(pythons["torchx"]), str(DRIVERS / "torchx_driver.py"), "rows"]
        turns["torchx, one process"] = Turn(100, [*driver, "100", str(root)])
    if "NeMo-Run" in pythons:
        driver = [str(pythons["NeMo-Run"]), str(DRIVERS / "nemo_driver.py"), "rows"]
        turns["NeMo-Run, one process"] = Turn(20, [*driver, "20", str(root / "nemo")])
    return turns


def run_turn(cluster: SlurmCluster, root: Path, turn: Turn) -> tuple[Used, float | None]:
    """Return what a submission took, and the call alone where a driver says it.

    Slurm is looked at whether it has all rows, and its queue cleared for the next turn.
    """
    environment = make_environment(cluster, NEXA_STATE_DIR=str(root / "state"))
    said = root / "said.txt"
    said.write_bytes(b"")
    folder = root / "project" if turn.command[0] in (NEXA, sys.executable) else root
    used = measure(turn.command, cwd=folder, env=environment, said=said)
    held = clear_queue(cluster)
    if held != turn.rows or (used.status != 0 and not turn.fails_after):
        sys.exit(f"{turn.command}: status {used.status}, {held} of {turn.rows} rows: {said.read_text()[-2000:]}")
    said_s = re.search(r'"in_process_s": ([0-9.e-]+)', said.read_text())
    return used, None if said_s is None else float(said_s[1])


def describe(turn: Turn, bare: Turn) -> dict[str, Any]:
    """Return the figures of one way."""
    wall = [used.wall_s for used in turn.seen]
    scaled = statistics.median(wall) * ROWS / turn.rows
    return {
        "rows": turn.rows,
        "wall_s_median": round(statistics.median(wall), 4),
        "wall_s_min": round(min(wall), 4),
        "wall_s_max": round(max(wall), 4),
        "cpu_s_median": round(statistics.median(used.cpu_s for used in turn.seen), 4),
        "call_s_median": round(statistics.median(turn.calls), 4) if turn.calls else None,
        "wall_s_per_1000_rows": round(scaled, 3),
        "times_bare": round(scaled / statistics.median(used.wall_s for used in bare.seen), 1),
    }


if __name__ == "__main__":
    sys.exit(main())
