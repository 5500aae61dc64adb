"""What a job entry has to know of torchrun, which starts training processes again without asking anybody."""

from __future__ import annotations

from nexa_infra.storage.run_dir import RunDir


def count_restarts(run_dir: RunDir, attempt: int) -> int:
    """Return how often torchrun started the processes of an attempt again; 0 for a program without it."""
    try:
        with run_dir.ranks(attempt).open("rb") as lines:
            return max(0, sum(1 for _ in lines) - 1)
    except OSError:
        return 0
