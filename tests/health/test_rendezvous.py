from __future__ import annotations

import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from nexa_contracts.clock import Clock, SystemClock
from nexa_contracts.errors import CommandMissing, ConfigError, NexaError
from nexa_contracts.health import HealthReport, NodeFacts
from nexa_contracts.rendezvous import JoinDecision, JoinResult, JoinSign
from nexa_infra.health.exchange import Host, exchange
from nexa_infra.health.reducing import Place, choose_port, reduce_here
from nexa_infra.health.rendezvous import Meeting, Node, NodeRefused, TooFewNodes, meet, read_decision
from nexa_infra.health.sources import Sources
from nexa_infra.process import Call, CommandRunner, Completed, SystemRunner
from nexa_infra.testing.process import FakeRunner
from tests.health.health_made import make_report, make_sources, own

FINE = json.dumps({"speed_gb_s": 10.0, "ahead_s": 0.001}) + "\n"
NAMES = ("n1", "n2", "n3")


def reducer(answer: str | Callable[[Call], Completed] = FINE) -> FakeRunner:
    return FakeRunner().answer(own("all_reduce"), answer)


class Ahead(Clock):
    """A clock that is some seconds ahead."""

    def __init__(self, seconds: float) -> None:
        self._real, self._ahead = SystemClock(), timedelta(seconds=seconds)

    def now(self) -> datetime:
        return self._real.now() + self._ahead

    def monotonic_s(self) -> float:
        return self._real.monotonic_s()

    def sleep(self, seconds: float) -> None:
        self._real.sleep(seconds)


def come(
    meeting: Meeting,
    name: str,
    *,
    runner: CommandRunner | None = None,
    report: HealthReport | None = None,
    clock: Clock | None = None,
    address: str = "localhost",
) -> object:
    """Return the decision a node leaves with, or the error; a node with a runner of its own has a GPU."""
    sources = make_sources(runner or reducer(), clock=clock or SystemClock())
    node = Node(name=name, address=address, gpus=0 if runner is None else 1, sources=sources)
    try:
        return meet(meeting, node, report or make_report(name))
    except NexaError as error:
        return error


def come_all(meeting: Meeting, **arguments: dict[str, object]) -> dict[str, object]:
    with ThreadPoolExecutor(len(meeting.nodes)) as pool:
        started = {
            name: pool.submit(come, meeting, name, **arguments.get(name, {}))  # type: ignore[arg-type]
            for name in meeting.nodes
        }
        return {name: future.result() for name, future in started.items()}


def test_nodes_that_fit_together_start_with_the_same_ranks(tmp_path: Path) -> None:
    left = come_all(Meeting(tmp_path / "meet", NAMES, wanted=3))
    decisions = {found.to_json() for found in left.values() if isinstance(found, JoinDecision)}
    assert len(decisions) == 1
    decision = read_decision(tmp_path / "meet")
    assert decision is not None
    assert (decision.state, decision.joined) == ("go", NAMES)


def test_a_sick_node_leaves_and_a_spare_takes_its_place(tmp_path: Path) -> None:
    meeting = Meeting(tmp_path, NAMES, wanted=2)
    left = come_all(meeting, n2={"report": make_report("n2", result="fail")})
    refusal = left["n2"]
    assert isinstance(refusal, NodeRefused)
    assert "gpu_ecc fail" in refusal.message
    joined = left["n1"]
    assert isinstance(joined, JoinDecision)
    assert joined.joined == ("n1", "n3")


def test_a_spare_that_is_not_needed_is_let_go_with_that_reason(tmp_path: Path) -> None:
    left = come_all(Meeting(tmp_path, NAMES, wanted=2))
    spare = left["n3"]
    assert isinstance(spare, NodeRefused)
    assert spare.message == "n3 does not join: a spare that was not needed"


def test_nodes_that_differ_do_not_start_and_every_one_says_why(tmp_path: Path) -> None:
    other = make_report("n2", facts=NodeFacts(environment_digest="other"))
    left = come_all(Meeting(tmp_path, NAMES, wanted=3), n2={"report": other})
    for error in left.values():
        assert isinstance(error, TooFewNodes)
        assert "2 of 3 nodes can join; n2: differs from 2 others: environment_digest other, on n1 e" in error.message


def test_a_node_that_never_reports_is_named_after_the_deadline(tmp_path: Path) -> None:
    meeting = Meeting(tmp_path, ("n1", "n2"), wanted=2, report_s=0.5)
    error = come(meeting, "n1")
    assert isinstance(error, TooFewNodes)
    assert "n2: vanished: no report in 0.5 s" in error.message


def test_a_node_that_vanishes_between_check_and_join_is_named_and_replaced(tmp_path: Path) -> None:
    meeting = Meeting(tmp_path, NAMES, wanted=2, join_s=1.0)
    # n2 reports, and is never heard of again.
    tmp_path.joinpath("report-n2.json").write_text(make_report("n2").to_json())
    with ThreadPoolExecutor(2) as pool:
        futures = {name: pool.submit(come, meeting, name) for name in ("n1", "n3")}
        left = {name: future.result() for name, future in futures.items()}
    for found in left.values():
        assert isinstance(found, JoinDecision)
        assert found.joined == ("n1", "n3")
        assert found.refused == {"n2": "vanished between its check and joining"}


def test_a_node_without_torch_is_left_out_and_named(tmp_path: Path) -> None:
    lacking = json.dumps({"failed": "torch cannot be loaded: No module named 'torch'", "is_own_fault": True}) + "\n"
    fine: dict[str, object] = {"runner": reducer()}
    meeting = Meeting(tmp_path, NAMES, wanted=2, join_s=5.0)
    left = come_all(meeting, n1={"runner": reducer(lacking)}, n2=fine, n3=fine)
    refusal, joined = left["n1"], left["n2"]
    assert isinstance(refusal, NodeRefused)
    assert "n1 does not join: all-reduce: torch cannot be loaded" in refusal.message
    assert isinstance(joined, JoinDecision)
    assert joined.joined == ("n2", "n3")


def test_a_sum_that_is_wrong_stops_the_start(tmp_path: Path) -> None:
    wrong = json.dumps({"failed": "rank 1: the sum is wrong"}) + "\n"
    meeting = Meeting(tmp_path, ("n1", "n2"), wanted=2, join_s=5.0)
    left = come_all(meeting, n1={"runner": reducer()}, n2={"runner": reducer(wrong)})
    for error in left.values():
        assert isinstance(error, TooFewNodes)
        assert "the nodes do not work together: n2: all-reduce: rank 1: the sum is wrong" in error.message


def test_nodes_without_gpus_exchange_and_load_nothing(tmp_path: Path) -> None:
    left = come_all(Meeting(tmp_path, NAMES, wanted=3))
    assert all(isinstance(found, JoinDecision) for found in left.values())
    results = [read_result(tmp_path, name) for name in NAMES]
    assert all(found.is_done and found.ahead_s is not None and abs(found.ahead_s) < 0.5 for found in results)


def test_a_clock_that_is_off_is_found_in_the_exchange_and_its_node_replaced(tmp_path: Path) -> None:
    left = come_all(Meeting(tmp_path, (*NAMES, "n4"), wanted=3), n2={"clock": Ahead(5.0)})
    refusal, joined = left["n2"], left["n1"]
    assert isinstance(refusal, NodeRefused)
    assert "clock is +5.00 s off the others; allowed: 0.5 s" in refusal.message
    assert isinstance(joined, JoinDecision)
    assert joined.joined == ("n1", "n3", "n4")


def test_a_node_that_most_others_do_not_reach_is_named_and_replaced(tmp_path: Path) -> None:
    meeting = Meeting(tmp_path, (*NAMES, "n4"), wanted=3, join_s=4.0)
    left = come_all(meeting, n3={"address": "no-such-host.invalid"})
    refusal, joined = left["n3"], left["n1"]
    assert isinstance(refusal, NodeRefused)
    assert "2 of 2 others do not reach it: n1: n3 at no-such-host.invalid:" in refusal.message
    assert isinstance(joined, JoinDecision)
    assert joined.joined == ("n1", "n2", "n4")


def test_of_two_that_do_not_reach_each_other_neither_is_blamed(tmp_path: Path) -> None:
    left = come_all(Meeting(tmp_path, ("n1", "n2"), wanted=2, join_s=4.0), n2={"address": "no-such-host.invalid"})
    for error in left.values():
        assert isinstance(error, TooFewNodes)
        assert "the nodes do not work together: n1: n2 at no-such-host.invalid:" in error.message
        assert error.decision.refused == {}


def test_a_stranger_at_the_port_neither_hinders_nor_joins() -> None:
    clock = SystemClock()
    with Host(clock) as host, socket.create_connection(("localhost", host.port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.0\r\n\r\n")
        signs = [JoinSign(node=name, round=0, address="localhost", port=host.port, processes=1) for name in NAMES]
        found = exchange(signs, signs[0], clock=clock, timeout_s=10.0)
    assert (found.is_done, found.words, found.unreached) == (True, "", ())
    gone = exchange(signs, signs[0], clock=clock, timeout_s=10.0)
    assert gone.unreached == ("n2", "n3")
    assert "connection refused" in gone.words


def read_result(folder: Path, name: str) -> JoinResult:
    return JoinResult.from_json((folder / f"result-0-{name}.json").read_bytes(), source=name)


def test_the_first_word_holds_even_if_the_late_node_comes_after_all(tmp_path: Path) -> None:
    meeting = Meeting(tmp_path, ("n1", "n2"), wanted=1, report_s=0.3)
    assert isinstance(come(meeting, "n1"), JoinDecision)
    late = come(meeting, "n2")
    assert isinstance(late, NodeRefused)
    assert "vanished" in late.message


def test_a_name_that_would_leave_the_folder_is_refused(tmp_path: Path) -> None:
    error = come(Meeting(tmp_path, ("../x",), wanted=1), "../x")
    assert isinstance(error, ConfigError)


@pytest.mark.parametrize(
    ("reply", "words", "is_own"),
    [
        (Completed(-6, "", "Watchdog caught collective operation timeout\n"), "status -6: Watchdog", False),
        (Completed(0, "", ""), "status 0: printed nothing", False),
        (CommandMissing("python: cannot be run"), "python: cannot be run", True),
    ],
)
def test_a_process_that_says_nothing_is_told_by_its_end(reply: Completed | NexaError, words: str, is_own: bool) -> None:
    runner = FakeRunner().answer(own("all_reduce"), reply)
    sign = JoinSign(node="n1", round=0, address="localhost", port=1, processes=1)
    result = reduce_here(make_sources(runner), Place((sign,), 0, 1.0), backend="gloo")
    assert not result.is_done
    assert words in result.words
    assert result.is_own_fault == is_own


def test_every_gpu_gets_a_process_and_a_rank_of_its_own() -> None:
    runner = reducer()
    signs = tuple(
        JoinSign(node=f"n{n}", round=0, address=f"host{n}", port=5000 + n, processes=count)
        for n, count in enumerate((2, 4))
    )
    result = reduce_here(make_sources(runner), Place(signs, 1, 30.0), backend="nccl")
    assert result.is_done
    words = [set(call.argv) for call in runner.calls]
    assert all({"--address=host0", "--port=5000", "--world=6", "--backend=nccl"} <= asked for asked in words)
    assert {word for asked in words for word in asked if word.startswith("--rank")} == {
        f"--rank={n}" for n in range(2, 6)
    }


def test_two_real_processes_add_up_through_gloo() -> None:
    signs = tuple(
        JoinSign(node=name, round=0, address="localhost", port=choose_port(), processes=1) for name in ("n1", "n2")
    )
    sources = Sources(SystemRunner(), SystemClock(), {})
    with ThreadPoolExecutor(2) as pool:
        results = list(
            pool.map(lambda index: reduce_here(sources, Place(signs, index, 90.0), backend="gloo"), range(2))
        )
    assert all(result.is_done and result.all_reduce_gb_s for result in results), results
    assert all(result.ahead_s is not None and abs(result.ahead_s) < 0.5 for result in results)
