"""Whether the driver answers, for as many GPUs as were asked for, and what it told the kernel's log."""

from __future__ import annotations

from collections.abc import Sequence

from nexa_contracts.health import CheckResult, GpuReading, Result
from nexa_infra.health.checks.finding import Finding, summarise, unknown
from nexa_infra.health.gpus import GpuAnswer
from nexa_infra.health.kernel_log import KernelLog
from nexa_infra.health.sources import DRIVER_TIMEOUT_S

DRAIN_XIDS = frozenset({46, 48, 62, 64, 74, 79, 95, 109, 110, 119, 120, 136, 140, *range(143, 151), 155, 156, 158})
WARN_XIDS = frozenset({8, 13, 31, 32, 43, 45, 61, 63, 68, 69, 92, 94, 137, 154})
"""Source: https://docs.nvidia.com/deploy/xid-errors/ ; others are told, as a warning."""


def judge_driver(answer: GpuAnswer) -> CheckResult:
    """Return whether the driver answers in time."""
    results: dict[str, Result] = {"answered": "ok", "absent": "fail", "failed": "fail", "silent": "fail"}
    version = answer.readings.driver
    measured = {"answered": version or "answered", "silent": f"no answer in {DRIVER_TIMEOUT_S:g} s"}
    return CheckResult(
        name="gpu_driver",
        result="unknown" if answer.state == "answered" and version is None else results[answer.state],
        measured=measured.get(answer.state),
        threshold=f"answers in {DRIVER_TIMEOUT_S:g} s",
        evidence=answer.words,
    )


def judge_count(answer: GpuAnswer, gpus: Sequence[GpuReading], *, wanted: int, absent: Sequence[str]) -> CheckResult:
    """Return whether as many GPUs work as were asked for; `absent` are those assigned for which there is none."""
    threshold = f"{wanted} or more"
    if answer.state in ("failed", "silent"):
        return unknown("gpu_count", answer.words, threshold=threshold)
    lost = [gpu.index for gpu in gpus if gpu.is_lost]
    working = len(gpus) - len(lost)
    words = [answer.words]
    words += [f"GPU {index} is lost" for index in lost]
    words += [f"CUDA_VISIBLE_DEVICES names {name}, which is not there" for name in absent]
    is_bad = bool(lost) or bool(absent) or working < wanted
    return CheckResult(
        name="gpu_count",
        result="fail" if is_bad else "ok",
        measured=str(working),
        threshold=threshold,
        evidence="; ".join(words),
    )


def judge_xids(log: KernelLog) -> CheckResult:
    """Return the worst of the XIDs since the machine started."""
    threshold = "no XID since the machine started"
    if log.xids is None:
        return unknown("gpu_xid", log.source, threshold=threshold)
    findings = [_judge_xid(xid.number, xid.line) for xid in log.xids]
    return summarise("gpu_xid", findings or [Finding("ok", "none")], threshold=threshold, source=log.source)


def _judge_xid(number: int, line: str) -> Finding:
    return Finding("fail" if number in DRAIN_XIDS else "warn", f"XID {number}", line)
