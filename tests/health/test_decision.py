from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_contracts.health import HealthReport, NodeFacts, Result
from nexa_contracts.rendezvous import JoinDecision, JoinResult
from nexa_infra.health.decision import (
    blame_alone,
    decide_first,
    decide_next,
    describe_problems,
    explain_refusals,
    find_blamed,
    find_unfit,
)
from tests.health.health_made import make_report

FACTS = NodeFacts(driver="550.54.15", environment_digest="e" * 64, code_digest="c" * 64)


def report(node: str, result: Result = "ok", **facts: object) -> HealthReport:
    return make_report(node, result=result, facts=FACTS.model_copy(update=facts))


def first(*reports: HealthReport, wanted: int, missing: tuple[str, ...] = ()) -> JoinDecision:
    nodes = [*(found.node for found in reports), *missing]
    by_node: dict[str, HealthReport | None] = {found.node: found for found in reports}
    return decide_first(nodes, by_node, wanted=wanted, waited_s=300)


def result(node: str, *, is_done: bool = True, words: str = "", own: bool = False, ahead_s: float = 0.0) -> JoinResult:
    return JoinResult(node=node, round=0, is_done=is_done, is_own_fault=own, words=words, ahead_s=ahead_s)


def test_healthy_nodes_that_agree_join_in_their_order_and_the_rest_are_spares() -> None:
    decision = first(report("n2"), report("n1"), report("n3"), wanted=2)
    assert (decision.state, decision.joined, decision.spares) == ("try", ("n2", "n1"), ("n3",))


def test_a_node_that_fails_or_is_unknown_is_left_out_and_a_spare_comes_in() -> None:
    decision = first(report("n1", "fail"), report("n2", "unknown"), report("n3", "warn"), report("n4"), wanted=2)
    assert decision.joined == ("n3", "n4")
    assert decision.refused["n1"] == "gpu_ecc fail: 1 (NVML: GPU 0: 1 uncorrected); healthy: 0"
    assert "gpu_ecc unknown" in decision.refused["n2"]


def test_too_few_nodes_stop_the_start_with_every_reason() -> None:
    decision = first(report("n1", "fail"), report("n2"), wanted=3, missing=("n3",))
    assert decision.state == "stop"
    assert decision.reason.startswith("1 of 3 nodes can join; n1: gpu_ecc fail")
    assert "n3: vanished: no report in 300 s" in decision.reason


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"driver": "535.161.07"}, "differs from 2 others: driver 535.161.07, on n1 550.54.15"),
        ({"environment_digest": "f" * 64}, "environment_digest ffffffffffff…"),
        ({"code_digest": "d" * 64}, "code_digest dddddddddddd…"),
        ({"code_digest": None}, "code_digest unknown"),
        ({"environment_digest": None}, "environment_digest unknown"),
        ({"container_digest": "sha256:1"}, "container_digest sha256:1, on n1 none"),
        ({"clock_offset_s": 0.8}, "clock is +0.80 s off the others; allowed: 0.5 s"),
    ],
)
def test_a_node_that_differs_from_the_others_does_not_join(facts: dict[str, object], words: str) -> None:
    alike = FACTS.model_copy(update={"clock_offset_s": 0.0} if "clock_offset_s" in facts else {})
    other = make_report("n3", facts=alike.model_copy(update=facts))
    decision = first(make_report("n1", facts=alike), make_report("n2", facts=alike), other, wanted=2)
    assert decision.joined == ("n1", "n2")
    assert words in decision.refused["n3"]


def test_a_firmware_that_differs_is_told_and_joins() -> None:
    decision = first(report("n1", vbios=("96.00",)), report("n2", vbios=("95.00",)), wanted=2)
    assert decision.joined == ("n1", "n2")
    assert decision.warnings == ("GPU firmware differs: 95.00 | 96.00",)


def test_the_all_reduce_lets_them_go() -> None:
    before = first(report("n1"), report("n2"), wanted=2)
    decision = decide_next(before, {node: result(node) for node in before.joined}, wanted=2)
    assert (decision.state, decision.round, decision.joined) == ("go", 1, ("n1", "n2"))


def test_a_node_that_vanished_between_check_and_join_is_named_and_replaced() -> None:
    before = first(report("n1"), report("n2"), report("n3"), wanted=2)
    failed = result("n1", is_done=False, words="Connection closed by peer")
    decision = decide_next(before, {"n1": failed, "n2": None}, wanted=2)
    assert (decision.state, decision.joined) == ("try", ("n1", "n3"))
    assert decision.refused == {"n2": "vanished between its check and joining"}
    again = decide_next(decision, {"n1": None, "n3": result("n3")}, wanted=2)
    assert again.state == "stop"
    assert "n1: vanished" in again.reason
    assert "n2: vanished" in again.reason


def test_what_is_one_nodes_fault_costs_that_node_and_what_is_nobodys_stops() -> None:
    before = first(report("n1"), report("n2"), report("n3"), wanted=2)
    lacking = {"n1": result("n1", is_done=False, words="torch cannot be loaded", own=True), "n2": result("n2")}
    assert decide_next(before, lacking, wanted=2).joined == ("n2", "n3")
    late = {"n1": result("n1"), "n2": result("n2", ahead_s=-2.0)}
    assert decide_next(before, late, wanted=2).joined == ("n1", "n3")
    between = {node: result(node, is_done=False, words="timed out") for node in before.joined}
    decision = decide_next(before, between, wanted=2)
    assert decision.state == "stop"
    assert decision.reason == "the nodes do not work together: n1: timed out; n2: timed out"


def refusing(**refused: str) -> JoinDecision:
    return JoinDecision(round=0, state="stop", refused=refused)


def test_nobody_is_blamed_for_what_befalls_most() -> None:
    assert find_blamed(NODES[:2], refusing(n1="XID 79")) == {"n1": "XID 79"}
    assert find_blamed(NODES[:3], refusing(n0="disk", n1="disk")) == {}
    assert find_blamed(NODES[:3], refusing()) == {}


def test_what_was_only_not_measured_is_left_out_and_held_against_nobody() -> None:
    decision = first(
        report("n1", "unknown"), report("n2"), report("n3"), report("n4", code_digest=None), report("n5", "fail"),
        report("n6"), wanted=2,
    )  # fmt: skip
    assert set(find_unfit(NODES, decision.refused)) == {"n1", "n4", "n5"}
    assert set(find_blamed(NODES, decision)) == {"n5"}
    gone = decide_next(decision, {"n2": None, "n3": result("n3")}, wanted=2)
    assert set(find_blamed([f"n{number}" for number in range(8)], gone)) == {"n2", "n5"}


def test_a_node_that_was_alone_is_blamed_for_what_is_surely_its_own() -> None:
    sick = report("n1", "fail")
    full = sick.checks[0].model_copy(update={"name": "disk /data"})
    unread = sick.checks[0].model_copy(update={"name": "gpu_xid", "result": "unknown"})
    assert blame_alone(sick.model_copy(update={"checks": (full,)})) is None
    assert blame_alone(sick.model_copy(update={"checks": (unread,)})) is None
    why = blame_alone(sick.model_copy(update={"checks": (full, unread, *sick.checks)}))
    assert why == describe_problems(sick)


def test_what_can_never_be_measured_comes_with_what_to_do() -> None:
    assert explain_refusals({"n1": "gpu_ecc fail: 1"}) == ()
    (hint,) = explain_refusals({"n1": "gpu_ecc unknown: not measured ([N/A])"})
    assert "health.accept_unknown" in hint
    both = explain_refusals({"n1": "gpu_ecc fail: 1", "n2": "gpu_xid unknown: x"})
    assert both == ("n1: gpu_ecc fail: 1", "n2: gpu_xid unknown: x", hint)


NODES = [f"n{number}" for number in range(6)]
REPORTS = st.fixed_dictionaries(
    {
        node: st.none()
        | st.builds(
            make_report,
            st.just(node),
            result=st.sampled_from(["ok", "warn", "fail", "unknown"]),
            facts=st.builds(
                NodeFacts,
                driver=st.sampled_from([None, "a", "b"]),
                environment_digest=st.sampled_from([None, "e", "f"]),
                clock_offset_s=st.none() | st.floats(-1, 1),
            ),
        )
        for node in NODES
    }
)


@given(REPORTS, st.integers(1, 7))
def test_whoever_decides_every_node_has_one_place_and_those_who_join_are_healthy_and_alike(
    reports: dict[str, HealthReport | None], wanted: int
) -> None:
    decision = decide_first(NODES, reports, wanted=wanted, waited_s=1)
    assert decision == decide_first(NODES, dict(reversed(reports.items())), wanted=wanted, waited_s=1)
    assert sorted([*decision.joined, *decision.spares, *decision.refused]) == NODES
    able = [found for node in (*decision.joined, *decision.spares) if (found := reports[node])]
    assert all(found.is_healthy for found in able)
    assert len({(found.facts.driver, found.facts.environment_digest) for found in able}) <= 1
    assert (decision.state == "try") == (len(able) >= wanted)
    assert len(decision.joined) == (wanted if decision.state == "try" else 0)
    assert JoinDecision.from_json(decision.to_json(), source="x") == decision


@given(REPORTS, st.integers(1, 4), st.data())
def test_rounds_end_because_each_one_that_goes_on_has_lost_a_node(
    reports: dict[str, HealthReport | None], wanted: int, data: st.DataObject
) -> None:
    decision = decide_first(NODES, reports, wanted=wanted, waited_s=1)
    for _ in range(len(NODES) + 1):
        if decision.state != "try":
            break
        kinds = {node: data.draw(st.sampled_from(["done", "gone", "own"])) for node in decision.joined}
        results = {
            node: None if kind == "gone" else result(node, is_done=kind == "done", own=kind == "own")
            for node, kind in kinds.items()
        }
        after = decide_next(decision, results, wanted=wanted)
        assert set(after.refused) >= set(decision.refused)
        assert (after.state == "go") == (set(kinds.values()) == {"done"})
        decision = after
    assert decision.state in ("go", "stop")
