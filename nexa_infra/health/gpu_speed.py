"""Prints how fast each GPU copies and multiplies, as one line of JSON; a program of its own, because it loads torch.

`{"speeds": {"h2d_gb_s": …, "matmul_tflops": …}}` of the slowest GPU, or `{"absent": why}`, or `{"failed": why}`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

_COPY_BYTES = 256 * 1024**2
_SIDE = 8192
_REPEATS = 10


def main() -> int:
    """Print the line and return 0."""
    sys.stdout.write(json.dumps(_measure()) + "\n")
    return 0


def _measure() -> dict[str, Any]:
    try:
        import torch
    except ImportError:
        return {"absent": "torch is not installed"}
    if not torch.cuda.is_available():
        return {"absent": "torch sees no GPU"}
    try:
        each = [_measure_one(torch, index) for index in range(torch.cuda.device_count())]
    except RuntimeError as error:  # what CUDA refuses
        return {"failed": str(error).splitlines()[0]}
    return {"speeds": {name: min(speeds[name] for speeds in each) for name in each[0]}}


def _measure_one(torch: Any, index: int) -> dict[str, float]:
    device = torch.device("cuda", index)
    here = torch.empty(_COPY_BYTES, dtype=torch.uint8, pin_memory=True)
    there = torch.empty(_COPY_BYTES, dtype=torch.uint8, device=device)
    copy_s = _best_s(torch, device, lambda: there.copy_(here, non_blocking=True))
    left = torch.randn(_SIDE, _SIDE, dtype=torch.bfloat16, device=device)
    product = torch.empty_like(left)
    multiply_s = _best_s(torch, device, lambda: torch.matmul(left, left, out=product))
    return {"h2d_gb_s": _COPY_BYTES / copy_s / 1e9, "matmul_tflops": 2 * _SIDE**3 / multiply_s / 1e12}


def _best_s(torch: Any, device: Any, work: Any) -> float:
    # By the GPU's own clock; the best of several, because whatever disturbs one only makes it slower.
    times: list[float] = []
    with torch.cuda.device(device):
        for _ in range(_REPEATS + 2):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            work()
            end.record()
            end.synchronize()
            times.append(float(start.elapsed_time(end)) / 1e3)
    return min(times[2:])


if __name__ == "__main__":
    sys.exit(main())
