"""Which nodes join, given what they reported and how many are wanted; values in, values out.

Every node may be the one that decides, so the same reports give the same decision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from nexa_contracts.health import CheckResult, HealthReport, NodeFacts
from nexa_contracts.rendezvous import JoinDecision, JoinResult
from nexa_infra.health.checks.machine import MAX_SKEW_S

_COMPARED = ("driver", "environment_digest", "code_digest", "container_digest", "gpu_names")
_NEEDED = ("environment_digest",)
_SHOWN = 16
_LEAST_CALLERS = 2
_HOW_TO_GO_ON = (
    "what can never be measured here: list it under health.accept_unknown in nexa.yaml; "
    "to start without the check: check_nodes: false"
)


def decide_first(
    nodes: Sequence[str], reports: Mapping[str, HealthReport | None], *, wanted: int, waited_s: float
) -> JoinDecision:
    """Return who joins by the reports; a node without one is refused as having vanished.

    The nodes that agree are the largest group with the same facts; of equal ones that with the earliest node.
    """
    refused: dict[str, str] = {}
    healthy: dict[str, NodeFacts] = {}
    unmeasured = []
    for node in dict.fromkeys(nodes):
        report = reports.get(node)
        if report is None:
            refused[node] = f"vanished: no report in {waited_s:g} s"
        elif not report.is_healthy:
            refused[node] = describe_problems(report)
            unmeasured += [] if _find_failed(report) else [node]
        else:
            healthy[node] = report.facts
    unknown = _refuse_unknown(healthy)
    unmeasured += unknown
    refused |= unknown
    refused |= _refuse_unlike({node: facts for node, facts in healthy.items() if node not in refused})
    refused |= _refuse_early_and_late({node: facts for node, facts in healthy.items() if node not in refused})
    able = [node for node in healthy if node not in refused]
    versions = sorted({", ".join(healthy[node].vbios) for node in able})
    warnings = (f"GPU firmware differs: {' | '.join(versions)}",) if len(versions) > 1 else ()
    decision = _divide(able, refused, wanted=wanted, number=0, warnings=warnings)
    return decision.model_copy(update={"unmeasured": tuple(unmeasured)})


def decide_next(before: JoinDecision, results: Mapping[str, JoinResult | None], *, wanted: int) -> JoinDecision:
    """Return what follows when the nodes of a round have tried each other: go, another round with spares, or stop."""
    number = before.round + 1
    refused: dict[str, str] = {}
    for node in before.joined:
        result = results.get(node)
        if result is None:
            refused[node] = "vanished between its check and joining"
        elif result.is_own_fault:
            refused[node] = result.words
        elif result.ahead_s is not None and abs(result.ahead_s) > MAX_SKEW_S:
            refused[node] = f"clock is {result.ahead_s:+.2f} s off the others; allowed: {MAX_SKEW_S:g} s"
    refused |= _refuse_unreached(before.joined, results, but=refused)
    if refused:
        able = [node for node in (*before.joined, *before.spares) if node not in refused]
        after = _divide(able, before.refused | refused, wanted=wanted, number=number, warnings=before.warnings)
        return after.model_copy(update={"unmeasured": before.unmeasured})
    failed = [result for node in before.joined if (result := results.get(node)) and not result.is_done]
    if not failed:
        return before.model_copy(update={"round": number, "state": "go"})
    # All are there, and what failed lies between them: a spare would be a guess.
    words = "; ".join(f"{result.node}: {result.words}" for result in failed[:_SHOWN])
    reason = f"the nodes do not work together: {words}"
    return before.model_copy(update={"round": number, "state": "stop", "reason": reason})


def describe_problems(report: HealthReport) -> str:
    """Return what keeps a node out, on one line."""
    if not report.checks:
        return "nothing was checked"
    return "; ".join(
        f"{check.name} {check.result}: {check.measured or 'not measured'} ({check.evidence}); healthy: "
        f"{check.threshold}"
        for check in report.problems
    )


def explain_refusals(refused: Mapping[str, str]) -> tuple[str, ...]:
    """Return a line for each of several nodes that were refused, and what to do where something was not measured."""
    lines = [f"{node}: {why}" for node, why in list(refused.items())[:_SHOWN]] if len(refused) > 1 else []
    return (*lines, *([_HOW_TO_GO_ON] if any(" unknown: " in why for why in refused.values()) else []))


def find_unfit(nodes: Sequence[str], refused: Mapping[str, str]) -> dict[str, str]:
    """Return which of the refused nodes others should take the place of, with why, of those who were to meet.

    Where most are refused at once, as when the shared tier is full, it is no node's doing, and others would be too.
    """
    return dict(refused) if 2 * len(refused) <= len(nodes) else {}


def find_blamed(nodes: Sequence[str], decision: JoinDecision) -> dict[str, str]:
    """Return which of the refused nodes are to blame, with why; none for what could only not be measured.

    Two such failures are a quarantine, and what a user may not read on one node may be read on none.
    """
    unfit = find_unfit(nodes, decision.refused)
    return {node: why for node, why in unfit.items() if node not in decision.unmeasured}


def blame_alone(report: HealthReport) -> str | None:
    """Return what a node is to blame for that started alone; None for nothing.

    A full or missing disk may be that of all nodes, and there is no other one to compare with.
    """
    own = [check for check in _find_failed(report) if not check.name.startswith("disk ")]
    return describe_problems(report.model_copy(update={"checks": tuple(own)})) if own else None


def _find_failed(report: HealthReport) -> list[CheckResult]:
    return [check for check in report.problems if check.result == "fail"]


def _divide(
    able: Sequence[str], refused: Mapping[str, str], *, wanted: int, number: int, warnings: tuple[str, ...]
) -> JoinDecision:
    if len(able) >= wanted:
        joined, spares = tuple(able[:wanted]), tuple(able[wanted:])
        return JoinDecision(
            round=number, state="try", joined=joined, spares=spares, refused=dict(refused), warnings=warnings
        )
    why = "; ".join(f"{node}: {words}" for node, words in list(refused.items())[:_SHOWN])
    reason = f"{len(able)} of {wanted} nodes can join; {why or 'no more were there'}"
    return JoinDecision(
        round=number, state="stop", spares=tuple(able), refused=dict(refused), warnings=warnings, reason=reason
    )


def _refuse_unreached(
    joined: Sequence[str], results: Mapping[str, JoinResult | None], *, but: Mapping[str, str]
) -> dict[str, str]:
    refused = {}
    for node in joined:
        callers = [
            found for other in joined if other != node and (found := results.get(other)) and node in found.unreached
        ]
        # One against one says nothing; most of the others do.
        if node not in but and len(callers) >= _LEAST_CALLERS and 2 * len(callers) > len(joined) - 1:
            why = callers[0].words
            refused[node] = f"{len(callers)} of {len(joined) - 1} others do not reach it: {callers[0].node}: {why}"
    return refused


def _refuse_unknown(facts: Mapping[str, NodeFacts]) -> dict[str, str]:
    needed = [*_NEEDED, *(["code_digest"] if any(of.code_digest for of in facts.values()) else [])]
    unknown = {node: [name for name in needed if getattr(of, name) is None] for node, of in facts.items()}
    return {node: f"{', '.join(names)} unknown" for node, names in unknown.items() if names}


def _refuse_unlike(facts: Mapping[str, NodeFacts]) -> dict[str, str]:
    refused: dict[str, str] = {}
    groups: dict[tuple[object, ...], list[str]] = {}
    for node, of in facts.items():
        groups.setdefault(tuple(getattr(of, name) for name in _COMPARED), []).append(node)
    if groups:
        chosen = max(groups, key=lambda key: len(groups[key]))  # the first of equal ones, which has the earliest node
        for key, members in groups.items():
            if key != chosen:
                refused |= dict.fromkeys(members, _tell_difference(key, chosen, groups[chosen]))
    return refused


def _tell_difference(found: tuple[object, ...], chosen: tuple[object, ...], others: Sequence[str]) -> str:
    differing = [
        f"{name} {_show(own)}, on {others[0]} {_show(theirs)}"
        for name, own, theirs in zip(_COMPARED, found, chosen, strict=True)
        if own != theirs
    ]
    return f"differs from {len(others)} other{'' if len(others) == 1 else 's'}: {'; '.join(differing)}"


def _show(value: object) -> str:
    text = ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value or "none")
    return text if len(text) <= 40 else text[:12] + "…"


def _refuse_early_and_late(facts: Mapping[str, NodeFacts]) -> dict[str, str]:
    offsets = {node: of.clock_offset_s for node, of in facts.items() if of.clock_offset_s is not None}
    if not offsets:
        return {}
    middle = median(offsets.values())
    return {
        node: f"clock is {offset - middle:+.2f} s off the others; allowed: {MAX_SKEW_S:g} s"
        for node, offset in offsets.items()
        if abs(offset - middle) > MAX_SKEW_S
    }
