"""Trainings whose scratch becomes full, or whose durable read-only: `training_driver FOLDER CASE`, see `namespace`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from nexa_contracts.errors import NexaError
from nexa_infra.storage.layout import Tiers
from nexa_infra.storage.seal import verify_seal
from tests.cli.cli_process import Cli, end_supervisor
from tests.faults.ending_driver import make_project, read, wait_until
from tests.faults.namespace import fill, make_read_only, make_writable, mount_memory

EVERY = 100
LONG = (
    Path(__file__)
    .with_name("small.yaml")
    .read_text()
    .replace("max_steps: 30", "max_steps: 1500")
    .replace("every_steps: 10,", f"every_steps: {EVERY}, promote_every_steps: 500,")
)


def main(folder: Path, case: str) -> None:
    os.environ["NEXA_STATE_DIR"] = str(folder / "state")
    tiers = Tiers(folder / "tiers/scratch", folder / "tiers/durable", folder / "tiers/shared")
    mount_memory(tiers.scratch, "64m")
    cli = make_project(folder / "project", folder / "tiers")
    cli.write("long.yaml", LONG)
    try:
        said = fill_scratch(cli, tiers) if case == "scratch full" else lock_durable(cli, tiers)
    finally:
        end_supervisor()
    print(json.dumps(said))


def fill_scratch(cli: Cli, tiers: Tiers) -> dict[str, Any]:
    run_id = start(cli, tiers)
    filler = fill(tiers.scratch)
    outcome = wait_for_end(cli, run_id)
    left = sorted(path.name for path in tiers.checkpoints_temp(run_id).iterdir())
    broken = [name for name in left if not is_whole(tiers.checkpoints_temp(run_id) / name)]
    filler.unlink()
    resumed = cli.json("launch", "long.yaml", "--resume", run_id, "--wait")["runs"][0]
    attempt = read(cli.project.attempt(resumed["run_id"], 1))
    return {
        "run_id": run_id,
        "scratch": str(tiers.scratch),
        "outcome": outcome,
        "left": left,
        "broken": broken,
        "resumed_from": attempt["resumed_from"],
        "then": resumed["state"],
        "model": is_whole(tiers.checkpoint(resumed["run_id"])),
    }


def lock_durable(cli: Cli, tiers: Tiers) -> dict[str, Any]:
    run_id = start(cli, tiers)
    make_read_only(tiers.durable)
    outcome = wait_for_end(cli, run_id)
    refused = cli("storage", "recover")
    make_writable(tiers.durable)
    shown = cli.json("storage", "recover", "--dry-run")["promoted"]
    promoted = cli.json("storage", "recover")["promoted"]
    return {
        "run_id": run_id,
        "outcome": outcome,
        "refused": [refused.returncode, refused.stderr],
        "shown": shown,
        "promoted": promoted,
        "whole": [is_whole(tiers.checkpoint(name)) for name in promoted],
        "copied": (tiers.durable_manifests / cli.project.outcome(run_id).name).exists(),
        "again": cli.json("storage", "recover")["promoted"],
    }


def start(cli: Cli, tiers: Tiers) -> str:
    run_id = str(cli.json("launch", "long.yaml")["submission"])
    first = tiers.checkpoints_temp(run_id) / f"checkpoint-{EVERY}" / "nexa_seal.json"
    wait_until(first.exists)
    return run_id


def wait_for_end(cli: Cli, run_id: str) -> dict[str, Any]:
    wait_until(cli.project.outcome(run_id).exists)
    return read(cli.project.outcome(run_id))


def is_whole(folder: Path) -> bool:
    try:
        verify_seal(folder)
    except NexaError:
        return False
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
