"""How fast the index answers over 100,000 runs, against reading every manifest as JSON.

Makes manifests, outcomes and costs like real ones in a temporary folder, then measures whole processes by their CPU
time (user + sys): `python benchmarks/index_speed.py [--runs N] [--rounds N] [--json FILE]`.
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from figures import write_figures

from nexa_contracts.clock import SystemClock
from nexa_contracts.cost import CostBreakdown, CostEstimate, CostManifest, Rate
from nexa_contracts.resources import Resources
from nexa_contracts.run import CodeRecord, EnvironmentRecord, RunConfig, RunManifest, RunOutcome
from nexa_contracts.states import JobState
from nexa_contracts.training import DataConfig, ModelConfig, ScratchModel, TrainingConfig
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import record_manifest

QUERY = """
import sys
from pathlib import Path
from nexa_infra.storage.index import open_index
from nexa_infra.storage.layout import Project
with open_index(Project(Path(sys.argv[1]))) as index:
    rows = index.find_runs(limit=int(sys.argv[2]))
    print(len(rows), rows[0].run_id)
"""
SCAN = """
import json, os, sys
folder = sys.argv[1] + "/runs/manifests"
runs = {}
for entry in os.scandir(folder):
    if entry.name.endswith(".json"):
        with open(entry.path, "rb") as stream:
            found = json.loads(stream.read())
        runs.setdefault(found["run_id"], []).append((found.get("name"), found.get("state"), found.get("total")))
newest = sorted(runs, reverse=True)[: int(sys.argv[2])]
print(len(newest), newest[0])
"""
START = datetime(2026, 11, 1, tzinfo=UTC)
SWEEP_SIZE = 1000


def main() -> None:
    """Measure, print a table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="index-speed-") as folder:
        figures = measure(Project(Path(folder)), runs=options.runs, rounds=options.rounds)
        # Before the folder goes: removing 300,000 files takes longer than the measurement.
        for name, figure in figures.items():
            print(f"{name:28} {figure:10.3f}" if isinstance(figure, float) else f"{name:28} {figure}", flush=True)
        write_figures("index_speed", figures, options.json)


def measure(project: Project, *, runs: int, rounds: int) -> dict[str, Any]:
    """Return CPU seconds of each way to ask, medians where there are rounds."""
    manifest_bytes = make_runs(project, runs)
    time.sleep(0.1)  # past the tick in which the folder was written, as in life
    figures: dict[str, Any] = {"runs": runs, "files": runs * 3, "manifest_bytes_mean": manifest_bytes / runs}
    figures["cold_build_cpu_s"] = cpu_s(QUERY, project, 50)
    figures["index_mib"] = project.index.stat().st_size / 2**20
    figures["warm_newest_50_cpu_s"] = median(rounds, lambda: cpu_s(QUERY, project, 50))
    figures["warm_all_cpu_s"] = median(rounds, lambda: cpu_s(QUERY, project, runs))
    figures["ten_new_cpu_s"] = median(rounds, lambda: cpu_after_new(project, 10, runs))
    figures["one_foreign_cpu_s"] = median(rounds, lambda: cpu_after_foreign(project, runs))
    figures["peer_scan_cpu_s"] = median(min(rounds, 3), lambda: cpu_s(SCAN, project, 50))
    figures["peer_over_warm_all"] = figures["peer_scan_cpu_s"] / figures["warm_all_cpu_s"]
    figures["bare_python_cpu_s"] = median(rounds, lambda: cpu_s("import sys; print(0, 0)", project, 0))
    return figures


def cpu_s(program: str, project: Project, limit: int) -> float:
    """Return user + sys seconds of a whole Python process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", program, str(project.root), str(limit)], check=True, stdout=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def cpu_after_new(project: Project, count: int, limit: int) -> float:
    """Return the CPU seconds of a query after new runs were recorded as a launch does it."""
    now = SystemClock().now()
    for _ in range(count):
        record_manifest(project, make_manifest(f"run_20261201_000000_{random.getrandbits(20):05x}"[:24], 0, now))
    time.sleep(0.05)
    return cpu_s(QUERY, project, limit)


def cpu_after_foreign(project: Project, limit: int) -> float:
    """Return the CPU seconds of a query after a manifest was copied in by hand, which costs a listing."""
    run_id = f"run_20261202_000000_{random.getrandbits(20):05x}"[:24]
    project.manifest(run_id).write_text(make_manifest(run_id, 0, START).to_json())
    time.sleep(0.05)
    return cpu_s(QUERY, project, limit)


def median(rounds: int, figure: Callable[[], float]) -> float:
    """Return the median of so many measurements."""
    return statistics.median(figure() for _ in range(rounds))


def make_runs(project: Project, count: int) -> int:
    """Write manifests, outcomes and costs of `count` finished runs; return the manifests' bytes.

    Written plainly, in the form the contracts give: 300,000 flushes and schema checks would take an hour and say
    nothing about the index. One journal line accounts for them, as after a launch.
    """
    generator = random.Random(17)
    project.manifests.mkdir(parents=True)
    template = make_manifest("run_0", 0, START).to_json()
    outcome = make_outcome("run_0").to_json()
    cost = make_cost("run_0").to_json()
    total = 0
    for number in range(count):
        created = START + timedelta(seconds=20 * number)
        stamp = f"{START + timedelta(seconds=20 * (number // SWEEP_SIZE)):%Y%m%d_%H%M%S}_k{number // SWEEP_SIZE:03d}"
        run_id = f"run_{stamp}-{number % SWEEP_SIZE:03d}"
        rate = f"{10 ** generator.uniform(-4, -2):.6g}"
        text = (
            template.replace("run_0", run_id)
            .replace('"sweep_id": null', f'"sweep_id": "sweep_{stamp}"')
            .replace('"index": null', f'"index": {number % SWEEP_SIZE}')
            .replace("2026-11-01T00:00:00Z", f"{created:%Y-%m-%dT%H:%M:%SZ}")
            .replace("0.000777", rate)
        )
        loss = f"{generator.uniform(2, 6):.4f}"
        total += len(text)
        project.manifest(run_id).write_text(text)
        project.outcome(run_id).write_text(outcome.replace("run_0", run_id).replace("2.7777", loss))
        project.cost(run_id).write_text(cost.replace("run_0", run_id))
    return total


def make_manifest(run_id: str, number: int, created_at: datetime) -> RunManifest:
    """Return a manifest as a launch writes it, with the packages of an ordinary environment."""
    config = RunConfig(
        name="lr-sweep",
        resources=Resources(cpus=4, gpus_per_node=1, gpu_type="H100-SXM"),
        model=ModelConfig(scratch=ScratchModel()),
        data=DataConfig(dataset="python_stdlib"),
        training=TrainingConfig(max_steps=400, learning_rate=0.000777),
        tags={"team": "pretraining"},
    )
    rate = Rate(resource="H100-SXM", unit="gpu_hour", hourly=3.99, source="price table", as_of="2026-11-09")
    return RunManifest(
        run_id=run_id,
        point={"training.learning_rate": 0.000777, "training.seed": number},
        name=config.name,
        created_at=created_at,
        created_by="someone",
        project="demo",
        config=config,
        config_source="configs/lr.yaml",
        backend="local",
        launcher="python",
        command=("python", "-m", "nexa_train.run"),
        code=CodeRecord(
            commit="0" * 40,
            branch="main",
            is_dirty=False,
            snapshot="1" * 64,
            snapshot_files=120,
            snapshot_bytes=500_000,
        ),
        environment=EnvironmentRecord(
            hostname="node-1",
            platform="Linux x86_64",
            python="3.11.7",
            python_executable=".venv/bin/python",
            packages={f"package-{index}": f"{index}.4.{index % 7}" for index in range(20)},
        ),
        estimate=CostEstimate(runs=1, hours_per_run=1.0, units_per_run=1, rate=rate, total=3.99),
    )


def make_outcome(run_id: str) -> RunOutcome:
    """Return the outcome of a run that went well."""
    return RunOutcome(
        run_id=run_id,
        state=JobState.SUCCEEDED,
        ended_at=START,
        attempts=1,
        seconds=2040.5,
        steps=400,
        tokens=409_600,
        metrics={"loss": 2.7777, "eval_loss": 2.7777, "eval_bits_per_byte": 1.6},
    )


def make_cost(run_id: str) -> CostManifest:
    """Return the cost of that run."""
    return CostManifest(
        run_id=run_id,
        created_at=START,
        breakdown=CostBreakdown(compute_hours=0.567),
        rate=Rate(resource="H100-SXM", unit="gpu_hour", hourly=3.99),
        seconds=2040.5,
        units=1,
        estimate=3.99,
        total=2.26,
    )


if __name__ == "__main__":
    main()
