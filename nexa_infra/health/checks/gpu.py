"""What the readings of the GPUs mean.

Source of the thresholds: NVIDIA's guides to XID errors, GPU memory errors and clock event reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nexa_contracts.health import CheckResult, GpuReading, Result
from nexa_contracts.units import format_count, format_size
from nexa_infra.health.checks.finding import Finding, summarise

MAX_IDLE_C = 85
"""A GPU that is this hot before work starts has no margin left."""
MANY_CORRECTED = 1000
MAX_LEFT_BYTES = 1024**3
"""The driver itself holds about half of it on large GPUs."""
_MAX_LANES = 16
_BAD_REASONS = {0x8: "hardware slowdown", 0x20: "software thermal", 0x40: "hardware thermal", 0x80: "power brake"}
_POWER_CAP = 0x4


def judge_gpus(gpus: Sequence[GpuReading], *, source: str, owner: Callable[[int], str]) -> list[CheckResult]:
    """Return every check that follows from the readings; `owner` says whose a process is, for people."""
    most_links = max((gpu.nvlinks_up or 0 for gpu in gpus), default=0)
    return [
        _each("gpu_temperature", gpus, _temperature, f"below {MAX_IDLE_C} °C before work", source),
        _each("gpu_throttle", gpus, _throttle, "no slowdown by heat, brake or hardware", source),
        _each("gpu_ecc", gpus, _ecc, f"0 uncorrected, no remapping due, below {MANY_CORRECTED} corrected", source),
        _each("gpu_nvlink", gpus, lambda gpu: _nvlink(gpu, most_links), "every link up", source),
        _each("gpu_pcie", gpus, _pcie, f"x{_MAX_LANES}, or all lanes of GPU and slot; no replays", source),
        _each(
            "gpu_leftovers",
            gpus,
            lambda gpu: _leftovers(gpu, owner),
            f"no process, below {format_size(MAX_LEFT_BYTES)} in use",
            source,
        ),
    ]


def _each(
    name: str, gpus: Sequence[GpuReading], judge: Callable[[GpuReading], Finding], threshold: str, source: str
) -> CheckResult:
    findings = []
    for gpu in gpus:
        found = judge(gpu)
        findings.append(Finding(found.result, found.measured, f"GPU {gpu.index}: {found.words}"))
    return summarise(name, findings, threshold=threshold, source=source)


def _missing(gpu: GpuReading, *names: str) -> Finding | None:
    for name in names:
        if getattr(gpu, name) is None:
            return Finding("unknown", "", f"{name}: {gpu.missing.get(name, 'not said')}")
    return None


def _temperature(gpu: GpuReading) -> Finding:
    if gpu.temperature_c is None:
        return Finding("unknown", "", gpu.missing.get("temperature_c", "not said"))
    is_hot = gpu.temperature_c >= MAX_IDLE_C
    return Finding("fail" if is_hot else "ok", f"{gpu.temperature_c} °C", f"{gpu.temperature_c} °C")


def _throttle(gpu: GpuReading) -> Finding:
    if gpu.throttle_mask is None:
        return Finding("unknown", "", gpu.missing.get("throttle_mask", "not said"))
    reasons = [words for bit, words in _BAD_REASONS.items() if gpu.throttle_mask & bit]
    measured = f"0x{gpu.throttle_mask:x}"
    if reasons:
        return Finding("fail", measured, ", ".join(reasons))
    if gpu.throttle_mask & _POWER_CAP:
        return Finding("warn", measured, "power cap")
    return Finding("ok", measured)


def _ecc(gpu: GpuReading) -> Finding:
    # What is known and bad counts, even if something else is not known.
    bad = []
    if gpu.ecc_uncorrected:
        bad.append(f"{gpu.ecc_uncorrected} uncorrected")
    bad += [
        words for is_so, words in ((gpu.remap_pending, "remap pending"), (gpu.remap_failed, "remap failed")) if is_so
    ]
    if bad:
        return Finding("fail", ", ".join(bad), ", ".join(bad))
    if missing := _missing(gpu, "ecc_uncorrected", "ecc_corrected", "remap_pending", "remap_failed"):
        return missing
    corrected = gpu.ecc_corrected or 0
    measured = f"0 uncorrected, {corrected} corrected"
    return Finding("warn" if corrected >= MANY_CORRECTED else "ok", measured, f"{corrected} corrected")


def _nvlink(gpu: GpuReading, most_links: int) -> Finding:
    if gpu.nvlinks is None or gpu.nvlinks_up is None:
        return Finding("unknown", "", gpu.missing.get("nvlinks", "not said"))
    if gpu.nvlinks == 0:
        return Finding("ok", "none built in")
    measured = f"{gpu.nvlinks_up} of {gpu.nvlinks} up"
    if most_links == 0:
        return Finding("ok", measured)  # not wired up on this node: of one GPU, or without a bridge
    return Finding("ok" if gpu.nvlinks_up == gpu.nvlinks else "fail", measured, measured)


def _pcie(gpu: GpuReading) -> Finding:
    if gpu.pcie_width is None:
        return Finding("unknown", "", gpu.missing.get("pcie_width", "not said"))
    wanted = min(_MAX_LANES, gpu.pcie_width_max or _MAX_LANES)
    result: Result = "ok"
    words = [f"x{gpu.pcie_width}"]
    if gpu.pcie_width < wanted:
        result, words = "fail", [f"x{gpu.pcie_width} of x{wanted}"]
    elif gpu.pcie_replays:
        result = "warn"
    words += [format_count(gpu.pcie_replays, "replay")] if gpu.pcie_replays else []
    return Finding(result, ", ".join(words), ", ".join(words))


def _leftovers(gpu: GpuReading, owner: Callable[[int], str]) -> Finding:
    if gpu.processes:
        words = ", ".join(f"process {process.pid}{owner(process.pid)}" for process in gpu.processes[:3])
        count = len(gpu.processes)
        return Finding("fail", f"{count} process{'' if count == 1 else 'es'}", words)
    if missing := _missing(gpu, "processes", "memory_used_bytes"):
        return missing
    measured = f"{format_size(gpu.memory_used_bytes)} in use"
    is_left = (gpu.memory_used_bytes or 0) >= MAX_LEFT_BYTES
    return Finding("fail" if is_left else "ok", measured, f"{measured} and no process")
