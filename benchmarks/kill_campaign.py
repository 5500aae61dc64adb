"""kill -9 at random moments, again and again: `python benchmarks/kill_campaign.py [--rounds N] [--seed S]`.

Each round launches a small training run and kills one of: the command line while it launches, the job entry, the
trainer, the promoter, the supervisor. Then it waits for the end and checks what was promised: the run ends; whatever is
visible on durable is whole; every manifest can be read; nothing of the job is left running.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from figures import write_figures

from nexa_contracts.clock import SystemClock
from nexa_contracts.errors import NexaError
from nexa_contracts.states import JobState
from nexa_infra.storage.index import open_index
from nexa_infra.storage.layout import Project, Tiers
from nexa_infra.storage.recovery import recover_promotions
from nexa_infra.storage.run_rows import RunRow
from nexa_infra.storage.seal import verify_seal

NEXA = str(Path(sys.executable).with_name("nexa"))
VICTIMS = {
    "cli": None,
    "job entry": "nexa_infra.scheduling.job_entry",
    "trainer": "nexa_train.run",
    "promoter": "nexa_infra.storage.promoter",
    "supervisor": "nexa_infra.scheduling.supervisor",
}
CONFIG = Path(__file__).parents[1] / "tests" / "faults" / "small.yaml"
LAUNCH = [
    NEXA, "launch", CONFIG.name, "--detach", "--set", "resources.walltime=10m", "--set", "training.max_steps=120",
    "--set", "checkpoints.promote_every_steps=40", "--set", "max_retries=3",
]  # fmt: skip
END_S = 300.0
NOT_SUBMITTED = "NOT SUBMITTED"
"""Of a run whose launch was killed before it was handed over."""


@dataclass
class Tally:
    """What happened in all rounds."""

    rounds: int = 0
    killed: dict[str, int] = field(default_factory=dict)
    missed: int = 0
    """Rounds whose victim had ended before it was found."""
    states: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    """Promises that did not hold, one line each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=17)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tally = run_campaign(Path(folder), rounds=arguments.rounds, seed=arguments.seed)
    print(f"{tally.rounds} rounds, {len(tally.broken)} broken promises; killed {tally.killed}; ended {tally.states}")
    for line in tally.broken:
        print(f"  {line}")
    write_figures(
        "kill_campaign",
        {
            "rounds": tally.rounds,
            "seed": arguments.seed,
            "killed": tally.killed,
            "victim_had_ended": tally.missed,
            "final_states": tally.states,
            "broken_promises": tally.broken,
        },
    )
    sys.exit(1 if tally.broken else 0)


def run_campaign(folder: Path, *, rounds: int, seed: int, victims: tuple[str, ...] = tuple(VICTIMS)) -> Tally:
    """Return the tally of so many rounds in a project made in a folder."""
    rng = random.Random(seed)
    project, environment = make_project(folder)
    tally = Tally()
    for number in range(rounds):
        victim = victims[number % len(victims)]
        before = {row.run_id for row in list_runs(project)}
        hit = kill_round(project, environment, victim, rng)
        tally.rounds += 1
        tally.killed[victim] = tally.killed.get(victim, 0) + int(hit)
        tally.missed += int(not hit)
        settle_round(project, environment, before, tally, label=f"round {number} ({victim})")
    return tally


def make_project(folder: Path) -> tuple[Project, dict[str, str]]:
    """Return a project with the config, and the environment its commands run in."""
    root = folder / "project"
    root.mkdir()
    (root / "nexa.yaml").write_text("project: kills\n")
    shutil.copy(CONFIG, root)
    environment = {**os.environ, "NEXA_STATE_DIR": str(folder / "state"), "HF_HUB_OFFLINE": "1"}
    return Project(root), environment


def kill_round(project: Project, environment: dict[str, str], victim: str, rng: random.Random) -> bool:
    """Launch a run and kill the victim at a random moment; return whether it was alive."""
    if victim == "cli":
        launcher = subprocess.Popen(
            LAUNCH, cwd=project.root, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(0.05, 3.0))
        alive = launcher.poll() is None
        launcher.kill()
        launcher.wait()
        return alive
    subprocess.run(LAUNCH, cwd=project.root, env=environment, check=True, stdout=subprocess.DEVNULL)
    time.sleep(rng.uniform(0.5, 14.0))
    deadline = time.monotonic() + 20.0
    while time.monotonic() < deadline:
        for process in find_processes(project, str(VICTIMS[victim])):
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
            return True
        time.sleep(0.05)
    return False


def settle_round(project: Project, environment: dict[str, str], before: set[str], tally: Tally, *, label: str) -> None:
    """Wait for the end of the round's run and check every promise."""
    for run_id in sorted({row.run_id for row in list_runs(project)} - before):
        state = wait_for_end(project, environment, run_id)
        tally.states[state] = tally.states.get(state, 0) + 1
        if state != "SUCCEEDED" and not (state == NOT_SUBMITTED and "(cli)" in label):
            tally.broken.append(f"{label}: {run_id} ended {state}")
    tiers = Tiers(*(project.root / "storage" / name for name in ("scratch", "durable", "shared")))
    if tiers.durable.is_dir():
        recover_promotions(tiers, clock=SystemClock())
        tally.broken += [f"{label}: {line}" for line in check_durable(tiers)]
    tally.broken += [f"{label}: {path}: not JSON" for path in unreadable_manifests(project)]
    leftovers = [process.info["cmdline"] for process in find_processes(project, "nexa_train.run")]
    tally.broken += [f"{label}: still running: {words}" for words in leftovers]


def wait_for_end(project: Project, environment: dict[str, str], run_id: str) -> str:
    """Return the state a run ends in, or that it was never submitted."""
    deadline = time.monotonic() + END_S
    while time.monotonic() < deadline:
        done = subprocess.run(
            [NEXA, "status", run_id, "--json"], cwd=project.root, env=environment, check=True, capture_output=True
        )
        (run,) = json.loads(done.stdout)["runs"]
        if JobState(run["state"]).is_final:
            return NOT_SUBMITTED if str(run["failure"]).startswith("not_submitted") else str(run["state"])
        if run["state"] == JobState.UNKNOWN:
            return "UNKNOWN"
        time.sleep(0.5)
    return "NEVER ENDED"


def check_durable(tiers: Tiers) -> Iterator[str]:
    """Yield a line for each thing on durable that is visible and not whole."""
    for folder in tiers.checkpoints.iterdir():
        if folder.name.startswith("."):
            yield f"{folder}: left over"
            continue
        try:
            verify_seal(folder)
        except NexaError as error:
            yield str(error)
        if not tiers.artifact_manifest(folder.name).exists():
            yield f"{folder}: visible without a manifest"
    for intent in tiers.intents.iterdir():
        yield f"{intent}: left over"


def unreadable_manifests(project: Project) -> list[Path]:
    """Return the manifest files that are not JSON."""
    bad = []
    for path in project.manifests.glob("[!.]*.json") if project.manifests.is_dir() else ():
        try:
            json.loads(path.read_bytes())
        except ValueError:
            bad.append(path)
    return bad


def list_runs(project: Project) -> list[RunRow]:
    """Return every run of the project."""
    if not project.manifests.is_dir():
        return []
    with open_index(project) as index:
        return index.find_runs()


def find_processes(project: Project, module: str) -> list[psutil.Process]:
    """Return the processes of a module that belong to the project."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if module not in (process.info["cmdline"] or []):
            continue
        try:
            variables = process.environ()
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if str(project.root.parent) in " ".join([*variables.values(), *process.info["cmdline"]]):
            found.append(process)
    return found


if __name__ == "__main__":
    main()
