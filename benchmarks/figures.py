"""Where a benchmark's figures are kept, and what machine they were measured on."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).resolve().parent / "results"


def read_hardware() -> dict[str, Any]:
    """Return the processor, cores, memory and software of this machine."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 1024**3, 1),
        "platform": platform.platform(),
        "python": platform.python_version(),
    }


def write_figures(name: str, figures: dict[str, Any], path: Path | None = None) -> Path:
    """Write a benchmark's figures with the day and the machine into `results/<name>.json`; return the file."""
    target = path or RESULTS / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    whole = {"measured_on": datetime.now(UTC).date().isoformat(), **figures, "hardware": read_hardware()}
    target.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    print(f"written to {target}")
    return target


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
