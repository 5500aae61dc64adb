"""Memory and time of the launcher with 1,000 queued trials: `python benchmarks/launcher_memory.py [--trials N]`.

A sweep of trials that do nothing is submitted to a queue of its own. Measured: the peak memory of the submitting
process, of the supervisor while the trials run, and the seconds until the last one has its outcome.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from figures import write_figures

SWEEP = """\
name: nothing
run: {{command: ["true"], resources: {{memory: 16MiB, walltime: 1m}}, max_retries: 0}}
search: random
trials: {trials}
axes:
  params.x: {{uniform: [0.0, 1.0]}}
"""
MIB = 1024**2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    trials = parser.parse_args().trials
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "nexa.yaml").write_text("project: memory\n")
        (root / "sweep.yaml").write_text(SWEEP.format(trials=trials))
        environment = {**os.environ, "NEXA_STATE_DIR": str(root / "state")}
        nexa = str(Path(sys.executable).with_name("nexa"))
        started = time.monotonic()
        subprocess.run([nexa, "sweep", "sweep.yaml", "--detach"], cwd=root, env=environment, check=True)
        submitted_s = time.monotonic() - started
        launcher_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        peak = 0
        while count_outcomes(root) < trials:
            peak = max(peak, supervisor_rss(root))
            time.sleep(0.2)
        ended_s = time.monotonic() - started
    figures = {
        "trials": trials,
        "submit_s": round(submitted_s, 2),
        "all_ended_s": round(ended_s, 1),
        "launcher_peak_mib": round(launcher_mib, 1),
        "supervisor_peak_mib": round(peak / MIB, 1),
    }
    for name, value in figures.items():
        print(f"{name:22} {value}")
    write_figures("launcher_memory", figures)


def count_outcomes(root: Path) -> int:
    """Return how many trials have ended."""
    return sum(1 for _ in (root / "runs" / "manifests").glob("outcome_*.json"))


def supervisor_rss(root: Path) -> int:
    """Return the resident bytes of the queue's supervisor; 0 while there is none."""
    for process in psutil.process_iter(["cmdline", "memory_info"]):
        words = process.info["cmdline"] or []
        if "nexa_infra.scheduling.supervisor" in words and any(word.startswith(str(root)) for word in words):
            return int(process.info["memory_info"].rss)
    return 0


if __name__ == "__main__":
    main()
