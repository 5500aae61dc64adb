"""What the GPUs of a node say of themselves: through NVML, else through nvidia-smi."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

from pydantic import ValidationError

from nexa_contracts.errors import CommandMissing, CommandTimedOut, ExternalError
from nexa_contracts.health import GpuReading, GpuReadings
from nexa_infra.health.smi import read_smi
from nexa_infra.health.sources import DRIVER_TIMEOUT_S, Sources
from nexa_infra.process import tail

Answer = Literal["answered", "absent", "failed", "silent"]


@dataclass(frozen=True, slots=True)
class GpuAnswer:
    """Whether the driver answered, and what."""

    state: Answer
    """`absent`: no driver here; `silent`: no answer in time."""
    words: str
    """Who was asked, and what was said of a failure."""
    readings: GpuReadings = field(default_factory=lambda: GpuReadings(source="nvml"))


def read_gpus(sources: Sources) -> GpuAnswer:
    """Return what NVML says, else what nvidia-smi says; a driver that fails or hangs is not asked twice."""
    answer = _ask_nvml(sources)
    if answer.state != "absent":
        return answer
    try:
        readings = read_smi(sources)
    except CommandMissing:
        return GpuAnswer("absent", f"{answer.words}; no nvidia-smi")
    except CommandTimedOut as error:
        return GpuAnswer("silent", error.message)
    except ExternalError as error:
        return GpuAnswer("failed", error.message)
    if readings is None:
        return GpuAnswer("absent", f"{answer.words}; nvidia-smi: the driver is not loaded")
    return GpuAnswer("answered", f"nvidia-smi ({answer.words})", readings)


def assigned(readings: GpuReadings, visible: str | None) -> tuple[tuple[GpuReading, ...], tuple[str, ...]]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES names, and the names for which there is none; None means all."""
    if visible is None:
        return readings.gpus, ()
    names = [name.strip() for name in visible.split(",") if name.strip()]
    found, absent = [], []
    for name in names:
        matching = [gpu for gpu in readings.gpus if name == str(gpu.index) or (gpu.uuid and gpu.uuid.startswith(name))]
        found += matching[:1]
        absent += [] if matching else [name]
    return tuple(found), tuple(absent)


def _ask_nvml(sources: Sources) -> GpuAnswer:
    try:
        reply = sources.run_own("nvml_reader", timeout_s=DRIVER_TIMEOUT_S).require_success()
    except CommandTimedOut:
        return GpuAnswer("silent", f"NVML: no answer in {DRIVER_TIMEOUT_S:g} s")
    except ExternalError as error:
        return GpuAnswer("failed", f"NVML: {error.message}")
    try:
        said = json.loads(reply.stdout)
        if "readings" in said:
            readings = GpuReadings.model_validate_json(json.dumps(said["readings"]))
            return GpuAnswer("answered", "NVML", readings)
        return GpuAnswer("absent", said["absent"]) if "absent" in said else GpuAnswer("failed", said["failed"])
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        return GpuAnswer("failed", f"NVML: {type(error).__name__} at {tail(reply.stdout)[:200]!r}")
