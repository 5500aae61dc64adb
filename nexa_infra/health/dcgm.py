"""What DCGM's quick diagnosis (level 1, seconds, no load) says, where `dcgmi` is installed.

Source: https://docs.nvidia.com/datacenter/dcgm/latest/user-guide/dcgm-diagnostics.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from nexa_contracts.errors import CommandMissing, ExternalError
from nexa_contracts.health import SEVERITY, CheckResult, Result
from nexa_infra.health.sources import Sources
from nexa_infra.process import tail

_ARGV = ("dcgmi", "diag", "-r", "1", "-j")
_TIMEOUT_S = 120.0
_RESULTS: dict[str, Result] = {"pass": "ok", "warn": "warn", "fail": "fail", "skip": "ok"}
NAME = "gpu_diagnosis"


def diagnose(sources: Sources) -> CheckResult | None:
    """Return what DCGM found; None when it is not installed."""
    try:
        reply = sources.run(*_ARGV, timeout_s=_TIMEOUT_S)
    except CommandMissing:
        return None
    except ExternalError as error:
        return _result("unknown", None, error.message)
    # A test that failed also makes the status non-zero: the text decides.
    return judge_diagnosis(reply.stdout, said=tail(reply.stderr) or tail(reply.stdout))


def judge_diagnosis(text: str, *, said: str) -> CheckResult:
    """Return the worst of the tests in DCGM's JSON; without any, unknown with what it said."""
    try:
        tests = list(_find_tests(json.loads(text), ""))
    except ValueError:
        tests = []
    if not tests:
        return _result("unknown", None, f"dcgmi: {said or 'printed nothing'}")
    bad = [(name, status) for name, status in tests if _RESULTS.get(status.lower(), "unknown") != "ok"]
    results: list[Result] = [_RESULTS.get(status.lower(), "unknown") for _, status in bad]
    worst: Result = max(results, key=SEVERITY.index, default="ok")
    shown = ", ".join(f"{name}: {status}" for name, status in bad[:5])
    return _result(worst, f"{len(tests) - len(bad)} of {len(tests)} tests", f"dcgmi: {shown or 'all passed'}")


def _find_tests(value: Any, name: str) -> Iterator[tuple[str, str]]:
    # The shape changed between versions; a test is whatever has a status, under the nearest name above it.
    if isinstance(value, list):
        for inner in value:
            yield from _find_tests(inner, name)
    if isinstance(value, dict):
        name = value["name"] if isinstance(value.get("name"), str) else name
        if isinstance(value.get("status"), str):
            yield name, value["status"]
        for inner in value.values():
            yield from _find_tests(inner, name)


def _result(result: Result, measured: str | None, evidence: str) -> CheckResult:
    return CheckResult(name=NAME, result=result, measured=measured, threshold="every test passes", evidence=evidence)
