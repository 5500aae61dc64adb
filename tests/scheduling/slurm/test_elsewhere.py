"""A job whose nodes were refused: what the controller is asked and told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nexa_contracts.errors import UnreadableReply
from nexa_contracts.rendezvous import JoinDecision
from nexa_contracts.states import NODE_UNHEALTHY, JobState
from nexa_infra.process import Call, Completed
from nexa_infra.scheduling.records import Attempt, Failure
from nexa_infra.scheduling.slurm.client import SlurmClient
from nexa_infra.scheduling.slurm.elsewhere import Elsewhere, find_refused, stay_put
from nexa_infra.storage.run_dir import RunDir
from nexa_infra.testing.clock import FakeClock
from nexa_infra.testing.process import FakeRunner

JOB = "JobId=12 JobState=PENDING Partition=main NumNodes=2-2 ExcNodeList={left_out}\n"
NODES = "".join(f"main*|1|8|65536|infinite|(null)|{name}\n" for name in ("n1", "n2", "n3"))
NOW = datetime(2026, 1, 2, tzinfo=UTC)
REFUSED = Attempt(
    run_id="run_20260102_030405_k3f9",
    number=2,
    state=JobState.NODE_FAILED,
    started_at=NOW,
    ended_at=NOW,
    seconds=1.0,
    hostname="rack1.n1",
    failure=Failure(NODE_UNHEALTHY, "n2: gpu_ecc fail"),
)


def make(left_out: str = "(null)", *, update: Completed | None = None) -> tuple[Elsewhere, FakeRunner]:
    runner = FakeRunner().answer(("scontrol", "--oneliner", "show", "job"), JOB.format(left_out=left_out))
    runner.answer(("scontrol", "show", "hostnames", "n[8-9]"), "n8\nn9\n")
    runner.answer(("scontrol", "update"), update or "").answer(("sinfo",), NODES)
    return Elsewhere(SlurmClient(runner, environment={}, clock=FakeClock()), "12", clock=FakeClock()), runner


def updates(runner: FakeRunner) -> list[tuple[str, ...]]:
    return [call.argv[2:] for call in runner.calls if call.argv[1] == "update"]


def test_a_job_leaves_out_what_was_refused_and_what_it_left_out_before() -> None:
    elsewhere, runner = make("n[8-9]")
    assert elsewhere.move_from(["n2"]) is None
    elsewhere.keep_off()
    assert updates(runner) == [("JobId=12", "ExcNodeList=n8,n9,n2")]


def test_a_job_that_would_never_start_without_them_is_not_moved() -> None:
    elsewhere, _ = make()
    assert elsewhere.move_from(["n1", "n3"]) == "without n1, n3 partition main has 1 of 2 nodes"
    assert elsewhere.move_from([]) == "most of its nodes were refused at once, as others would be"


def test_a_job_that_starts_again_for_another_reason_leaves_nothing_out() -> None:
    elsewhere, runner = make()
    elsewhere.keep_off()
    assert runner.calls == []


def test_a_controller_that_takes_no_change_yet_is_told_again_and_then_left(capsys: pytest.CaptureFixture[str]) -> None:
    refusals = [Completed(1, stderr="slurm_update error: Job is not pending nor running\n")]

    def answer(call: Call) -> Completed:
        return refusals.pop() if refusals else Completed(0, argv=call.argv)

    elsewhere, runner = make()
    runner.answer(("scontrol", "update"), answer)
    elsewhere.move_from(["n2"])
    elsewhere.keep_off()
    assert len(updates(runner)) == 2
    never, runner = make(update=Completed(1, stderr="Access denied\n"))
    never.move_from(["n2"])
    never.keep_off()
    assert len(updates(runner)) == 5
    assert "Access denied" in capsys.readouterr().err


def test_a_controller_that_does_not_answer_is_no_obstacle() -> None:
    elsewhere, runner = make()
    runner.answer(("sinfo",), Completed(1, stderr="Unable to contact slurm controller (connect failure)\n"))
    assert elsewhere.move_from(["n1", "n3"]) is None


@pytest.mark.parametrize("node", ["n1,n2", "--all", "n1 n2", "$(id)", ""])
def test_what_is_no_node_never_reaches_the_controller(node: str) -> None:
    runner = FakeRunner()
    with pytest.raises(UnreadableReply):
        SlurmClient(runner, environment={}, clock=FakeClock()).exclude("12", [node])
    assert runner.calls == []


def test_the_nodes_to_leave_are_those_that_were_to_blame(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    assert find_refused(run_dir, REFUSED) == ("rack1.n1",)  # it was alone
    run_dir.meeting(2).mkdir(parents=True)
    for refused, left in (({"n2": "x"}, ("n2",)), ({"n2": "x", "n3": "x"}, ())):
        decision = JoinDecision(round=0, state="stop", spares=("n1",), refused=refused, reason="too few")
        (run_dir.meeting(2) / "decision-0.json").write_text(decision.to_json())
        assert find_refused(run_dir, REFUSED) == left


def test_what_is_not_tried_elsewhere_says_both_reasons() -> None:
    failure = stay_put(REFUSED, "no node is left").failure
    assert failure is not None
    assert failure.message == "n2: gpu_ecc fail; not tried on other nodes: no node is left"
    assert failure.kind == NODE_UNHEALTHY
    assert stay_put(replace(REFUSED, failure=None), "x").failure is None
