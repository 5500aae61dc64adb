"""Values and seams that tests of node health start from."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from nexa_contracts.clock import Clock
from nexa_contracts.health import CheckResult, GpuReading, HealthReport, NodeFacts, Result
from nexa_infra.health.sources import Sources
from nexa_infra.process import CommandRunner
from nexa_infra.testing.clock import FakeClock
from nexa_infra.testing.process import FakeRunner

RECORDED = Path(__file__).resolve().parent / "recorded"
NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
PYTHON = "python-of-tests"


def recorded(name: str) -> str:
    """Return a recorded output."""
    return (RECORDED / name).read_text(encoding="utf-8")


def make_sources(
    runner: CommandRunner | None = None,
    *,
    environment: dict[str, str] | None = None,
    proc: Path = Path("/proc"),
    clock: Clock | None = None,
) -> Sources:
    """Return seams that answer from a script; what has no answer is not installed."""
    return Sources(
        runner=runner or FakeRunner(),
        clock=clock or FakeClock(NOW),
        environment=environment or {},
        proc=proc,
        python=PYTHON,
    )


def own(module: str) -> tuple[str, ...]:
    """Return how one of our own programs is started."""
    return (PYTHON, "-m", f"nexa_infra.health.{module}")


def make_gpu(**changed: object) -> GpuReading:
    """Return the reading of a healthy GPU with some fields changed."""
    healthy: dict[str, object] = {
        "index": 0,
        "uuid": "GPU-0",
        "name": "NVIDIA H100",
        "temperature_c": 34,
        "throttle_mask": 1,
        "ecc_uncorrected": 0,
        "ecc_corrected": 0,
        "remap_pending": False,
        "remap_failed": False,
        "nvlinks": 18,
        "nvlinks_up": 18,
        "pcie_width": 16,
        "pcie_width_max": 16,
        "pcie_replays": 0,
        "memory_total_bytes": 80 * 2**30,
        "memory_used_bytes": 2**29,
        "processes": (),
    }
    return GpuReading.model_validate({**healthy, **changed})


def make_report(node: str, *, result: Result = "ok", facts: NodeFacts | None = None) -> HealthReport:
    """Return a report of one check."""
    check = CheckResult(
        name="gpu_ecc", result=result, measured="1", threshold="0", evidence="NVML: GPU 0: 1 uncorrected"
    )
    return HealthReport(node=node, made_at=NOW, checks=(check,), facts=facts or NodeFacts(environment_digest="e"))
