"""How findings on several parts become one result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nexa_contracts.health import SEVERITY, CheckResult, Result

_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """What one part (a GPU, an error) says."""

    result: Result
    measured: str
    """With its unit; empty when nothing could be measured."""
    words: str = ""
    """What shows it, for people; needed unless it is ok."""


def summarise(name: str, findings: Sequence[Finding], *, threshold: str, source: str) -> CheckResult:
    """Return the worst of the findings, with the words of those that are not ok; unknown when there are none."""
    result = worst([finding.result for finding in findings])
    telling = [finding for finding in findings if finding.result == result]
    measured = ", ".join(dict.fromkeys(finding.measured for finding in telling if finding.measured))
    bad = [finding.words for finding in sorted(findings, key=_badness) if finding.result != "ok"]
    more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    evidence = "; ".join([*bad[:_SHOWN]]) + more
    return CheckResult(
        name=name,
        result=result,
        measured=measured or None,
        threshold=threshold,
        evidence=f"{source}: {evidence}" if evidence else source,
    )


def worst(results: Sequence[Result]) -> Result:
    """Return the worst of some results; unknown when there are none."""
    return max(results, key=SEVERITY.index, default="unknown")


def unknown(name: str, why: str, *, threshold: str) -> CheckResult:
    """Return that something could not be found out."""
    return CheckResult(name=name, result="unknown", threshold=threshold, evidence=why)


def _badness(finding: Finding) -> int:
    return -SEVERITY.index(finding.result)
