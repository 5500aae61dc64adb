"""What a policy found, and how findings become a refusal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from nexa_contracts.errors import PolicyRefused


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a policy says about a plan: which policy, how grave, what, and what to do."""

    policy: str
    gravity: Literal["refuse", "warn"]
    message: str
    hint: str | None = None

    def line(self) -> str:
        """Return the finding as one line for a person."""
        text = f"{self.policy}: {self.message}"
        return text if self.hint is None else f"{text}; {self.hint}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Every finding about one plan."""

    findings: tuple[Finding, ...]

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings a person should read and that stop nothing."""
        return tuple(finding for finding in self.findings if finding.gravity == "warn")

    def enforce(self) -> None:
        """Return if nothing was refused.

        Raises:
            PolicyRefused: one line for each refusal.
        """
        refusals = [finding.line() for finding in self.findings if finding.gravity == "refuse"]
        if refusals:
            raise PolicyRefused(refusals)


def gather(*parts: Iterable[Finding]) -> Verdict:
    """Return one verdict from the findings of several policies."""
    return Verdict(findings=tuple(finding for part in parts for finding in part))
