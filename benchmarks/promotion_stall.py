"""How long a training stands still while a checkpoint is promoted: the third figure of `training_overhead.py`."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from nexa_infra.process import SystemRunner
from nexa_infra.storage.layout import Tiers
from nexa_infra.storage.promoter_client import PromoterClient
from nexa_infra.storage.promoter_messages import PromoterRequest

RUN_ID = "run_20260102_030405_over"
MIB = 2**20


def measure_promotion(environment: dict[str, str], rounds: int, size_mib: int) -> dict[str, Any]:
    """Return how long training stands still for a checkpoint: handed to the promoter, against copied there and then.

    The work beside it is a loop of matrix products; what it loses is its time beyond that of the same loop alone.
    """
    tiers = Tiers.from_environment(environment)
    seen: dict[str, list[float]] = {"copied in place": [], "handed over": [], "lost beside the promoter": []}
    with PromoterClient(tiers, starter=SystemRunner(), environment=environment) as client:
        for number in range(1, rounds + 1):
            source = fill(tiers.checkpoints_temp(RUN_ID) / f"checkpoint-{number}", size_mib)
            started_s = time.monotonic()
            copy_synchronously(source, tiers.durable / f"copy-{number}")
            seen["copied in place"].append(time.monotonic() - started_s)
            shutil.rmtree(tiers.durable / f"copy-{number}")
            alone_s = statistics.median(time_call(work) for _ in range(50))
            request = PromoterRequest.of_checkpoint(source, run_id=RUN_ID, step=number, promote=True, keep_last=1)
            seen["handed over"].append(time_call(partial(client.submit, request)))
            beside_s = []
            while not client.collect():
                beside_s.append(time_call(work))
            # By medians: what another program took from single calls is not the promoter's doing.
            lost_s = (statistics.median(beside_s or [alone_s]) - alone_s) * len(beside_s)
            seen["lost beside the promoter"].append(max(0.0, lost_s))
            shutil.rmtree(tiers.checkpoint(f"{RUN_ID}_step_{number}"))
    medians = {name: round(statistics.median(values), 4) for name, values in seen.items()}
    stall, slower = (medians[name] / medians["copied in place"] for name in ("handed over", "lost beside the promoter"))
    return {
        "size_mib": size_mib,
        "seconds": medians,
        "stall_ratio": round(stall, 4),
        "slower_ratio": round(slower, 4),
    }


def fill(folder: Path, size_mib: int) -> Path:
    """Return a folder with one file of random bytes."""
    folder.mkdir(parents=True)
    with (folder / "model.safetensors").open("wb") as stream:
        for _ in range(size_mib):
            stream.write(os.urandom(MIB))
        os.fsync(stream.fileno())
    return folder


def copy_synchronously(source: Path, target: Path) -> None:
    """Copy a folder and flush it."""
    shutil.copytree(source, target)
    for path in target.iterdir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())


def work() -> None:
    """Do a few milliseconds of arithmetic on one core."""
    import torch

    torch.set_num_threads(1)
    side = torch.full((384, 384), 0.5)
    torch.mm(side, side)


def time_call(call: Callable[[], None]) -> float:
    """Return the wall seconds a call takes."""
    started_s = time.monotonic()
    call()
    return time.monotonic() - started_s
