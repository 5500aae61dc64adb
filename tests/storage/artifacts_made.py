"""Tiers and checkpoints as tests want them."""

from __future__ import annotations

from pathlib import Path

from nexa_infra.storage.layout import Tiers
from nexa_infra.storage.promote import ArtifactLabel
from nexa_infra.storage.seal import seal_folder
from nexa_infra.storage.tiers import init_tiers
from nexa_infra.testing.clock import FakeClock

RUN_ID = "run_20260102_030405_abcd"
CLOCK = FakeClock()


def make_tiers(folder: Path) -> Tiers:
    tiers = Tiers(folder / "scratch", folder / "durable", folder / "shared")
    init_tiers(tiers, clock=CLOCK)
    return tiers


def save_checkpoint(tiers: Tiers, step: int, *, sealed: bool = True, run_id: str = RUN_ID) -> Path:
    """A checkpoint as a Trainer leaves it: files, one of them in a folder, one of them empty."""
    folder = tiers.checkpoints_temp(run_id) / f"checkpoint-{step}"
    (folder / "rng").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 40 + str(step).encode())
    (folder / "rng" / "state_0.pth").write_bytes(b"\x80" * 100)
    (folder / "empty.json").write_bytes(b"")
    if sealed:
        seal_folder(folder, kind="checkpoint", run_id=run_id, step=step, now=CLOCK.now())
    return folder


def label(step: int, run_id: str = RUN_ID) -> ArtifactLabel:
    return ArtifactLabel.of_checkpoint(run_id, step)


def hidden(tiers: Tiers) -> list[str]:
    """What a reader of durable does not see and nobody should leave behind."""
    found = [path.name for path in tiers.checkpoints.iterdir() if path.name.startswith(".")]
    found += [path.name for path in tiers.durable_manifests.rglob(".*")]
    return sorted(found + [path.name for path in tiers.intents.iterdir()])
