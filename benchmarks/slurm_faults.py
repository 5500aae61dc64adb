"""A sweep of over 200 rows and a training on two nodes, on a real Slurm that fails all the time.

`python benchmarks/slurm_faults.py [--seed S] [--only sweep|training] [--folder DIR]`. While the rows run, a schedule
drawn from the seed kills programs and whole nodes, preempts, restarts and kills slurmctld and fills scratch; some rows
have less time than they need, some crash, hang, diverge, are refused or cancelled. Nobody lends a hand; `nexa watch`
runs beside. In the end every promise is looked up in what the rows wrote down themselves: each comes to its right end
once, none runs twice at a time, budgets hold, nothing is submitted twice or left running, and the weights of the
training are bitwise those of one that nothing happened to. Goodput stands beside its bound: `slurm_faults_goodput.py`.

Needs root and Debian's Slurm, as tests/cluster does. Takes about a quarter of an hour.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from figures import write_figures
from kill_campaign import check_durable, unreadable_manifests
from slurm_faults_goodput import TARGET, measure
from slurm_faults_program import EVERY
from slurm_faults_promises import (
    check_leftovers,
    check_runs,
    check_submissions,
    find_kind,
    read_lines,
    read_record,
)
from slurm_faults_site import PROGRAM, FaultSite, make_shape, open_site
from slurm_faults_strikes import CRASH, FULL, NODE, PREEMPT, RANK, RESTART, Striker

from nexa_contracts.states import JobState
from nexa_infra.storage.manifests import read_run_manifest

STRIKES = {RANK: 16, NODE: 6, PREEMPT: 6, RESTART: 2, CRASH: 4, FULL: 3}
"""During the sweep."""
MEAN_GAP_S = 7.0
TRAINING_STRIKES = {RANK: 2, NODE: 2, PREEMPT: 1, RESTART: 1, CRASH: 1, FULL: 1}
STEPS_BETWEEN = (60, 300)
"""Of the training, from a start to the next strike."""
TRAINING_EVERY = 20
END_S = 1500.0
QUIET_S = 90.0
"""After the last row: for Slurm to end what it is about to end, and for the watch to see it."""

TRAINING: dict[str, Any] = {
    "resources": {"cpus": 1, "memory": "1GiB", "walltime": "3m"},
    "model": {"scratch": {"vocab_size": 300, "hidden_size": 32, "num_layers": 1, "num_heads": 2, "dropout": 0.1}},
    "data": {"dataset": "python_stdlib", "block_size": 64, "max_rows": 60, "eval_fraction": 0},
    "max_retries": 30,
    "max_time_outs": 30,
    "stall_timeout": "2m",
}
SMALL = {**TRAINING, "training": {"max_steps": 60, "batch_size": 4, "learning_rate": 1e-3, "log_every": 1}}
LARGE = {
    **TRAINING,
    "resources": {**TRAINING["resources"], "nodes": 2},
    "training": {"max_steps": 3000, "batch_size": 24, "learning_rate": 1e-3, "log_every": 1},
    "checkpoints": {"every_steps": TRAINING_EVERY},
    "max_rank_restarts": 3,
}


@dataclass
class Tally:
    """What happened."""

    strikes: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    """Promises that did not hold, one line each."""


def main() -> int:
    """Run both, print and write what came of them; return 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--only", choices=("sweep", "training"))
    parser.add_argument("--folder", type=Path, help="keep everything here, to be looked at")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    parts: dict[str, Callable[[Path, int], Tally]] = {"sweep": run_sweep, "training": run_training}
    chosen = {name: part for name, part in parts.items() if options.only in (None, name)}
    with tempfile.TemporaryDirectory(prefix="nxf-", dir="/tmp") as temporary:  # the paths of sockets are short
        folder = options.folder or Path(temporary)
        tallies = {name: part(folder / name, options.seed) for name, part in chosen.items()}
    broken = [f"{name}: {line}" for name, tally in tallies.items() for line in tally.broken]
    for name, tally in tallies.items():
        print(f"{name}: struck {tally.strikes['counts']}; {tally.figures}")
    print(f"{len(broken)} broken promises", *broken, sep="\n  ")
    parts_told = {name: {"strikes": tally.strikes, **tally.figures} for name, tally in tallies.items()}
    write_figures(
        "slurm_faults",
        {"seed": options.seed, "target_of_the_bound": TARGET, **parts_told, "broken_promises": broken},
        options.json,
    )
    return 1 if broken else 0


def run_sweep(folder: Path, seed: int) -> Tally:
    """Return what became of the rows."""
    rng = random.Random(seed)
    tally = Tally()
    started_s = time.monotonic()
    with open_site(folder, make_shape(cpus=8), scratch_mib=256) as site:
        submit_rows(site, seed)
        site.start_watch()
        striker = Striker(site, rng, most_down=2)
        _strike_rows(striker, _draw(rng), _plan_cancels(site, rng))
        _close(site, striker, tally)
        records = [record for run_id in site.run_ids() if (record := read_record(site.project, run_id))]
        rows = [record for record in records if record.manifest.config.command is not None]
        good = [record for record in rows if record.outcome.state is JobState.SUCCEEDED]
        tally.figures = {
            "seconds": round(time.monotonic() - started_s),
            "rows": len(records),
            "states": _count(str(record.outcome.state) for record in records),
            "attempts": _count(str(each.state) for record in records for each in record.attempts),
            **measure(site, good, every=EVERY).describe(),
        }
        _judge_goodput(tally)
    return tally


def run_training(folder: Path, seed: int) -> Tally:
    """Return what became of the training on two nodes."""
    rng = random.Random(seed + 1)
    tally = Tally()
    started_s = time.monotonic()
    with open_site(folder, make_shape(cpus=2), scratch_mib=512) as site:
        undisturbed = site.launch("undisturbed", LARGE)
        _await(lambda: site.project.outcome(undisturbed).exists())
        site.start_watch()
        disturbed = site.launch("disturbed", LARGE)
        striker = Striker(site, rng)
        _strike_training(striker, disturbed)
        _close(site, striker, tally)
        if _read_weights(site, undisturbed) != _read_weights(site, disturbed):
            tally.broken.append("the weights differ from those of the training that nothing happened to")
        records = [record for run_id in (undisturbed, disturbed) if (record := read_record(site.project, run_id))]
        told = {record.manifest.name: measure(site, [record], every=TRAINING_EVERY) for record in records}
        lost = told["disturbed"].most_lost if "disturbed" in told else 0
        if lost > TRAINING_EVERY + 1:
            tally.broken.append(f"lost {lost} steps at once, with a checkpoint every {TRAINING_EVERY}")
        tally.figures = {
            "seconds": round(time.monotonic() - started_s),
            "attempts": {r.manifest.name: _count(str(each.state) for each in r.attempts) for r in records},
            "rank_restarts": sum(each.rank_restarts for record in records for each in record.attempts),
            "undisturbed_goodput": round(told["undisturbed"].goodput, 4) if "undisturbed" in told else None,
            **(told["disturbed"].describe() if "disturbed" in told else {}),
        }
        _judge_goodput(tally)
    return tally


def submit_rows(site: FaultSite, seed: int) -> None:
    """Hand over all rows: many small ones, some with too little time or few chances, and some trainings."""
    base = {
        "command": [sys.executable, "-I", "-S", str(PROGRAM), str(site.evidence)],
        "resources": {"cpus": 1, "memory": "64MiB", "walltime": "10m"},
        "max_retries": 12,
        "max_time_outs": 12,
        "stall_timeout": "40s",
    }
    usual = {"seed": seed, "least": 150, "most": 300}
    hasty = {**base, "resources": {**base["resources"], "walltime": "1m"}}  # type: ignore[dict-item]
    long = {"seed": seed, "least": 600, "most": 800}
    site.submit_sweep("rows", {**base, "params": usual}, range(200))
    site.submit_sweep("too-long", {**hasty, "params": {**long, "kind": "plain"}}, range(12))
    site.submit_sweep("too-long-and-deaf", {**hasty, "params": {**long, "kind": "deaf"}}, range(4))
    site.submit_sweep("one-more-chance", {**base, "params": {**usual, "kind": "plain"}, "max_retries": 1}, range(16))
    site.submit_sweep("trainings", {**SMALL, "checkpoints": {"every_steps": 20}}, range(8))


def _strike_rows(striker: Striker, plan: list[tuple[float, str]], cancels: dict[str, float]) -> None:
    site = striker.site
    begun_s = time.monotonic()
    while not site.is_over() and (now_s := time.monotonic() - begun_s) < END_S:
        striker.mend()
        site.note_jobs()
        site.let_nodes_return()
        while plan and plan[0][0] <= now_s:
            striker.strike(plan.pop(0)[1])
        for run_id, lead_s in list(cancels.items()):
            lines = read_lines(site.evidence / f"{run_id}.jsonl")
            if lines and time.time() - lines[0]["at_s"] > lead_s:
                site.nexa("cancel", run_id)  # once: should Slurm not answer, the watch passes it on
                del cancels[run_id]
        time.sleep(0.5)


def _strike_training(striker: Striker, run_id: str) -> None:
    site, rng = striker.site, striker.rng
    kinds = rng.sample(list(TRAINING_STRIKES), counts=list(TRAINING_STRIKES.values()), k=sum(TRAINING_STRIKES.values()))
    begun_s, due = time.monotonic(), rng.randint(*STEPS_BETWEEN)
    while not site.is_over() and time.monotonic() - begun_s < END_S:
        striker.mend()
        site.note_jobs()
        site.let_nodes_return()
        is_due = kinds and not striker.is_mending and _steps_since_start(site, run_id) >= due
        if is_due and striker.strike(kinds[0]):
            kinds.pop(0)
            due = rng.randint(*STEPS_BETWEEN)
            _await(partial(_has_felt, striker, run_id, due), timeout_s=60.0)
        time.sleep(0.3)


def _has_felt(striker: Striker, run_id: str, due: int) -> bool:
    return striker.is_mending or _steps_since_start(striker.site, run_id) < due


def _steps_since_start(site: FaultSite, run_id: str) -> int:
    run_dir = site.project.run_dir(run_id)
    events = read_lines(run_dir.events)
    begun = [event for event in events if event["event"] in ("start", "begin")]
    if not begun or begun[-1]["event"] == "start":
        return 0
    steps = [line["step"] for line in read_lines(run_dir.metrics) if line["time"] > begun[-1]["time"]]
    return steps[-1] - begun[-1]["step"] if steps else 0


def _close(site: FaultSite, striker: Striker, tally: Tally) -> None:
    striker.mend_all()
    for run_id in site.run_ids():
        if not site.project.outcome(run_id).exists():
            tally.broken.append(f"{run_id}: has not ended after {END_S:.0f} s")
    _await(lambda: not any(check_leftovers(site)), timeout_s=QUIET_S)
    site.note_jobs()
    if site.await_watch(QUIET_S) != 0:
        tally.broken.append("nexa watch did not end by itself when every run had ended")
    tally.broken += check_runs(site)
    tally.broken += check_submissions(site)
    tally.broken += check_leftovers(site)
    tally.broken += check_durable(site.tiers)
    tally.broken += [f"{path}: not JSON" for path in unreadable_manifests(site.project)]
    tally.strikes = {
        "counts": striker.count(),
        "missed": striker.missed,
        "all": [strike.describe() for strike in striker.strikes],
    }


def _judge_goodput(tally: Tally) -> None:
    share = tally.figures.get("of_the_bound", 0.0)
    if share < TARGET:
        tally.broken.append(f"goodput is {share:.3f} of its bound; wanted {TARGET}")


def _draw(rng: random.Random) -> list[tuple[float, str]]:
    kinds = rng.sample(list(STRIKES), counts=list(STRIKES.values()), k=sum(STRIKES.values()))
    at_s, plan = 10.0, []
    for kind in kinds:
        at_s += rng.expovariate(1 / MEAN_GAP_S)
        plan.append((at_s, kind))
    return plan


def _plan_cancels(site: FaultSite, rng: random.Random) -> dict[str, float]:
    manifests = [read_run_manifest(site.project, run_id) for run_id in site.run_ids()]
    return {each.run_id: rng.uniform(2, 20) for each in manifests if find_kind(each) == "cancelled"}


def _read_weights(site: FaultSite, run_id: str) -> bytes | None:
    path = site.tiers.checkpoint(run_id) / "model.safetensors"
    return path.read_bytes() if path.exists() else None


def _await(holds: Callable[[], bool], timeout_s: float = END_S) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not holds() and time.monotonic() < deadline_s:
        time.sleep(0.3)


def _count(words: Any) -> dict[str, int]:
    return dict(Counter(words).most_common())


if __name__ == "__main__":
    sys.exit(main())
