"""Prints what NVML says of every GPU, as one line of JSON; a program of its own, because a hung driver never answers.

`{"readings": …}`, or `{"absent": why}` when there is no NVML or no driver here, or `{"failed": why}`.
Source: https://docs.nvidia.com/deploy/nvml-api/
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

_MOST_NVLINKS = 36
_CORRECTED, _UNCORRECTED, _VOLATILE, _CORE = 0, 1, 0, 0
_UNTOLD = (1 << 64) - 1
"""NVML's word for a process's memory that it does not know."""


def main() -> int:
    """Print the line and return 0."""
    sys.stdout.write(json.dumps(_answer()) + "\n")
    return 0


def _answer() -> dict[str, Any]:
    try:
        import pynvml
    except ImportError:
        return {"absent": "the package nvidia-ml-py is not installed (nexa-compute[gpu])"}
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded) as error:
        return {"absent": f"NVML: {error}"}
    except pynvml.NVMLError as error:
        return {"failed": f"NVML: {error}"}
    try:
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        gpus = [_read_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        return {"failed": f"NVML: {error}"}
    return {"readings": {"source": "nvml", "driver": driver, "gpus": gpus}}


def _read_gpu(nvml: Any, index: int) -> dict[str, Any]:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
    except nvml.NVMLError as error:
        return {"index": index, "is_lost": True, "missing": {"uuid": str(error)}}
    missing: dict[str, str] = {}
    found: dict[str, Any] = {"index": index, "missing": missing}
    for names, ask in _questions(nvml, handle).items():
        try:
            answer = ask()
        except nvml.NVMLError as error:
            missing.update(dict.fromkeys(names, str(error)))
            found["is_lost"] = found.get("is_lost", False) or isinstance(error, nvml.NVMLError_GpuIsLost)
            continue
        values = answer if isinstance(answer, tuple) else (answer,)
        found.update({name: value for name, value in zip(names, values, strict=True) if value is not None})
    return found


def _questions(nvml: Any, handle: Any) -> dict[tuple[str, ...], Callable[[], Any]]:
    def ask(function: str, *arguments: Any) -> Callable[[], Any]:
        return lambda: getattr(nvml, function)(handle, *arguments)

    return {
        ("uuid",): lambda: _text(nvml.nvmlDeviceGetUUID(handle)),
        ("name",): lambda: _text(nvml.nvmlDeviceGetName(handle)),
        ("vbios",): lambda: _text(nvml.nvmlDeviceGetVbiosVersion(handle)),
        ("temperature_c",): ask("nvmlDeviceGetTemperature", _CORE),
        ("throttle_mask",): lambda: _throttle_mask(nvml, handle),
        ("ecc_uncorrected",): ask("nvmlDeviceGetTotalEccErrors", _UNCORRECTED, _VOLATILE),
        ("ecc_corrected",): ask("nvmlDeviceGetTotalEccErrors", _CORRECTED, _VOLATILE),
        ("remap_pending", "remap_failed"): lambda: _remapping(nvml, handle),
        ("nvlinks", "nvlinks_up"): lambda: _nvlinks(nvml, handle),
        ("pcie_width",): ask("nvmlDeviceGetCurrPcieLinkWidth"),
        ("pcie_width_max",): ask("nvmlDeviceGetMaxPcieLinkWidth"),
        ("pcie_replays",): ask("nvmlDeviceGetPcieReplayCounter"),
        ("memory_total_bytes", "memory_used_bytes"): lambda: _memory(nvml, handle),
        ("processes",): lambda: _processes(nvml, handle),
    }


def _throttle_mask(nvml: Any, handle: Any) -> int:
    try:
        return int(nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
    except nvml.NVMLError_FunctionNotFound:  # its name before driver 535
        return int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))


def _remapping(nvml: Any, handle: Any) -> tuple[bool, bool]:
    try:
        _, _, pending, failed = nvml.nvmlDeviceGetRemappedRows(handle)
    except nvml.NVMLError_NotSupported:  # before Ampere whole pages were retired
        return bool(nvml.nvmlDeviceGetRetiredPagesPendingStatus(handle)), False
    return bool(pending), bool(failed)


def _nvlinks(nvml: Any, handle: Any) -> tuple[int, int]:
    states = []
    for link in range(_MOST_NVLINKS):
        try:
            states.append(bool(nvml.nvmlDeviceGetNvLinkState(handle, link)))
        except (nvml.NVMLError_NotSupported, nvml.NVMLError_InvalidArgument):
            break  # that is how it says that it has no more
    return len(states), sum(states)


def _memory(nvml: Any, handle: Any) -> tuple[int, int]:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return memory.total, memory.used


def _processes(nvml: Any, handle: Any) -> list[dict[str, Any]]:
    return [
        {
            "pid": process.pid,
            "memory_bytes": None if process.usedGpuMemory in (None, _UNTOLD) else process.usedGpuMemory,
        }
        for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    ]


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


if __name__ == "__main__":
    sys.exit(main())
