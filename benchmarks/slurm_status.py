"""`nexa status` of a sweep of 10,000 rows on a real Slurm: `python benchmarks/slurm_status.py [--rounds N]`.

Measured while all rows wait, with half of them ended just now (each look settles the costs of some), and with all of
them ended and settled: the whole command from start to end.
How often Slurm is asked is counted by programs of the same names, first on the PATH, that note the call and then are
the real ones. Nothing runs: the rows that have ended get the records that their jobs would have written. Needs root,
and Debian's packages of Slurm.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from figures import write_figures
from slurm_bench import NEXA, brought_up, make_environment, measure, occupy

from nexa_contracts.run import RunOutcome
from nexa_contracts.states import JobState
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import record_outcome
from tests.cluster.slurm_cluster import Shape

ROWS = 10_000
SITUATIONS = {"all waiting": 0, "half ended": ROWS // 2, "all ended": ROWS}
"""How many rows have ended."""
MOST_S, MOST_QUERIES = 1.0, 1
ASKED = ("squeue", "sacct", "scontrol", "sinfo", "sbatch", "scancel")
SWEEP = f"""\
run:
  command: ["true"]
  resources: {{memory: 64MiB, walltime: 10m}}
axes:
  params.row: {{int: [1, {ROWS}]}}
"""
NOTE = """\
#!/bin/sh
echo {name} >> {notes}
exec {program} "$@"
"""


def main() -> int:
    """Measure, print and write the figures; return 1 when it takes longer, or asks more often, than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    shape = Shape(nodes=1, cpus=2, gpus=0)
    with tempfile.TemporaryDirectory(prefix="nxb-") as folder, brought_up(shape) as cluster:
        root = Path(folder)
        occupy(cluster, root)
        environment = make_environment(cluster, NEXA_STATE_DIR=str(root / "state"))
        project = Project(root / "project")
        submitted = submit(project, environment)
        run_ids = sorted(path.stem for path in project.manifests.glob("run_*.json"))
        figures: dict[str, Any] = {"launch_s": round(submitted, 2)}
        for name, ended in SITUATIONS.items():
            record_ends(project, run_ids[:ended])
            if ended == ROWS:
                run([NEXA, "watch", "--once"], project, environment)
            figures[name] = measure_status(root, environment, rounds)
            row = figures[name]
            print(f"{name:11} {row['wall_s_median']:.3f} s, {row['cpu_s_median']:.3f} s CPU, asked: {row['asked']}")
    situations = [figures[name] for name in SITUATIONS]
    is_reached = all(row["wall_s_median"] < MOST_S and sum(row["asked"].values()) <= MOST_QUERIES for row in situations)
    target = {"wall_s_below": MOST_S, "queries": MOST_QUERIES, "is_reached": is_reached}
    load = round(os.getloadavg()[1], 2)
    write_figures("slurm_status", {"rows": ROWS, "rounds": rounds, "load_average": load, "target": target, **figures})
    return 0 if is_reached else 1


def submit(project: Project, environment: Mapping[str, str]) -> float:
    """Submit the sweep, and return how many seconds that took."""
    project.root.mkdir()
    (project.root / "nexa.yaml").write_text("project: bench\nbackend: slurm\n")
    (project.root / "sweep.yaml").write_text(SWEEP)
    return run([NEXA, "sweep", "sweep.yaml", "--submit"], project, environment)


def run(command: list[str], project: Project, environment: Mapping[str, str]) -> float:
    """Run a command in the project, and return how many seconds that took."""
    said = project.root / "said.txt"
    used = measure(command, cwd=project.root, env=environment, said=said)
    if used.status != 0:
        sys.exit(f"{command}: status {used.status}: {said.read_text()}")
    return used.wall_s


def record_ends(project: Project, run_ids: Sequence[str]) -> None:
    """Write the outcomes of runs, as their jobs would have."""
    now = datetime.now(UTC)
    for run_id in run_ids:
        if not project.outcome(run_id).exists():
            end = RunOutcome(run_id=run_id, state=JobState.SUCCEEDED, ended_at=now, attempts=1, seconds=1.0)
            record_outcome(project, end)


def measure_status(root: Path, environment: Mapping[str, str], rounds: int) -> dict[str, Any]:
    """Return the figures of `nexa status` in the situation as it is, and how often which program was asked."""
    command, said = [NEXA, "status", "last"], root / "said.txt"
    watched = {**environment, "PATH": f"{put_in_between(root)}:{environment['PATH']}"}
    seen = [measure(command, cwd=root / "project", env=environment, said=said) for _ in range(rounds + 1)][1:]
    notes = root / "notes.txt"
    notes.write_text("")
    seen_watched = measure(command, cwd=root / "project", env=watched, said=said)
    if any(used.status != 0 for used in (*seen, seen_watched)):
        sys.exit(f"status failed: {said.read_text()[-2000:]}")
    wall = [used.wall_s for used in seen]
    return {
        "wall_s_median": round(statistics.median(wall), 4),
        "wall_s_min": round(min(wall), 4),
        "wall_s_max": round(max(wall), 4),
        "cpu_s_median": round(statistics.median(used.cpu_s for used in seen), 4),
        "asked": dict(Counter(notes.read_text().split())),
    }


def put_in_between(root: Path) -> Path:
    """Return a folder of programs with the names of Slurm's, which note that they were asked."""
    folder = root / "noted"
    folder.mkdir(exist_ok=True)
    for name in ASKED:
        program = folder / name
        program.write_text(NOTE.format(name=name, notes=root / "notes.txt", program=shutil.which(name)))
        program.chmod(0o755)
    return folder


if __name__ == "__main__":
    sys.exit(main())
