"""Promotions to a durable tier that is full or read-only, in a mount namespace of our own.

`mount_driver.py FOLDER CASE` is run under `unshare --mount`; it prints what happened as one JSON object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from nexa_contracts.clock import SystemClock
from nexa_contracts.errors import StorageError
from nexa_infra.process import SystemRunner
from nexa_infra.storage.atomic import create_file, replace_file
from nexa_infra.storage.layout import Tiers
from nexa_infra.storage.promote import ArtifactLabel, promote_folder
from nexa_infra.storage.recovery import recover_promotions
from nexa_infra.storage.seal import seal_folder, verify_seal
from nexa_infra.storage.tiers import check_tiers, init_tiers

CLOCK = SystemClock()
LABEL = ArtifactLabel.of_checkpoint("run_20260102_030405_full", 1)


def main(folder: Path, case: str) -> None:
    tiers = Tiers(folder / "scratch", folder / "durable", folder / "shared")
    tiers.durable.mkdir(parents=True)
    mount("-t", "tmpfs", "-o", "size=4m,nr_inodes=64", "tmpfs", str(tiers.durable))
    init_tiers(tiers, clock=CLOCK)
    source = tiers.checkpoints_temp(LABEL.run_id) / "checkpoint-1"
    source.mkdir(parents=True)
    (source / "model.bin").write_bytes(b"m" * 1_000_000)
    fill(case, tiers, source)
    seal_folder(source, kind="checkpoint", run_id=LABEL.run_id, step=1, now=CLOCK.now())
    said: dict[str, object] = {"promote": say(lambda: promote_folder(source, LABEL, tiers=tiers, clock=CLOCK))}
    said["visible"] = tiers.checkpoint(LABEL.name).exists()
    said["create"] = say(lambda: create_file(tiers.durable / "note.json", b"n" * 3_000_000))
    said["replace"] = say(lambda: replace_file(tiers.dataset_registry, b"n" * 3_000_000))
    said["check"] = say(lambda: check_tiers(tiers))
    said["source"] = verify_seal(source).size_bytes
    if case == "read-only":
        mount("-o", "remount,rw", str(tiers.durable))
    else:
        mount("-o", "remount,size=64m,nr_inodes=4096", str(tiers.durable))
    recover_promotions(tiers, clock=CLOCK, temporary_age_s=-60)
    said["left"] = sorted(path.name for path in tiers.checkpoints.iterdir())
    promote_folder(source, LABEL, tiers=tiers, clock=CLOCK)
    said["afterwards"] = verify_seal(tiers.checkpoint(LABEL.name)).size_bytes
    print(json.dumps(said))


def fill(case: str, tiers: Tiers, source: Path) -> None:
    match case:
        case "too large":
            (source / "optimizer.bin").write_bytes(b"o" * 6_000_000)
        case "no inodes":
            for number in range(60):
                (source / f"shard-{number:02}.bin").write_bytes(b"s" * 1000)
        case "no room":
            (tiers.durable / "other").write_bytes(b"x" * 3_500_000)
        case "read-only":
            mount("-o", "remount,ro", str(tiers.durable))
        case _:
            raise SystemExit(f"unknown case {case}")


def mount(*words: str) -> None:
    SystemRunner().run(["mount", *words], timeout_s=30).require_success()


def say(work: object) -> str:
    assert callable(work)
    try:
        work()
    except StorageError as error:
        return str(error)
    return "done"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
