"""One process of a short all-reduce, and one line of JSON on how it went; a program of its own, because it loads torch.

`{"speed_gb_s": …, "ahead_s": …}`, or `{"failed": why, "is_own_fault": …}`. Source of the bus bandwidth:
https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import timedelta
from statistics import median
from typing import Any

from nexa_contracts.clock import Clock, SystemClock

_ELEMENTS = {"gloo": 1 << 20, "nccl": 1 << 26}
"""Of 4 bytes."""
_REPEATS = 5


def main(arguments: Sequence[str]) -> int:
    """Print the line and return 0, whatever came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=sorted(_ELEMENTS), required=True)
    parser.add_argument("--address", required=True)
    for name in ("port", "rank", "world", "device"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--timeout-s", type=float, required=True)
    sys.stdout.write(json.dumps(_reduce(parser.parse_args(arguments), SystemClock())) + "\n")
    return 0


def _reduce(asked: argparse.Namespace, clock: Clock) -> dict[str, Any]:
    try:
        import torch
        from torch import distributed
    except ImportError as error:
        return {"failed": f"torch cannot be loaded: {error}", "is_own_fault": True}
    try:
        device = _choose_device(torch, asked)
    except RuntimeError as error:
        return {"failed": str(error).splitlines()[0], "is_own_fault": True}
    try:
        distributed.init_process_group(
            asked.backend,
            init_method=f"tcp://{asked.address}:{asked.port}",
            rank=asked.rank,
            world_size=asked.world,
            timeout=timedelta(seconds=asked.timeout_s),
        )
        answer = _measure(torch, asked, device, clock)
        distributed.destroy_process_group()
    except RuntimeError as error:  # what torch.distributed raises: DistError, DistStoreError, DistBackendError
        return {"failed": str(error).splitlines()[0][:400], "is_own_fault": False}
    return answer


def _choose_device(torch: Any, asked: argparse.Namespace) -> Any:
    if asked.backend == "gloo":
        return torch.device("cpu")
    torch.cuda.set_device(asked.device)
    return torch.device("cuda", asked.device)


def _measure(torch: Any, asked: argparse.Namespace, device: Any, clock: Clock) -> dict[str, Any]:
    count = _ELEMENTS[asked.backend]
    best_s = float("inf")
    for _ in range(_REPEATS):
        values = torch.full((count,), float(asked.rank + 1), device=device)
        torch.distributed.barrier()
        start_s = clock.monotonic_s()
        torch.distributed.all_reduce(values)
        # The sum is compared before the time is taken: a GPU works on after the call returned.
        is_right = bool((values == asked.world * (asked.world + 1) / 2).all())
        best_s = min(best_s, clock.monotonic_s() - start_s)
        if not is_right:
            return {"failed": f"rank {asked.rank}: the sum is wrong", "is_own_fault": False}
    speed = 2 * (asked.world - 1) / asked.world * 4 * count / best_s / 1e9
    return {"speed_gb_s": speed, "ahead_s": _measure_ahead(torch, asked, device, clock)}


def _measure_ahead(torch: Any, asked: argparse.Namespace, device: Any, clock: Clock) -> float:
    torch.distributed.barrier()
    now = clock.now().timestamp()
    own = torch.tensor([now], dtype=torch.float64, device=device)
    everyone = [torch.zeros_like(own) for _ in range(asked.world)]
    torch.distributed.all_gather(everyone, own)
    return now - median(float(value.item()) for value in everyone)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
