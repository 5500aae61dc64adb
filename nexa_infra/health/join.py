"""This node before the processes of a distributed job start: checked, met with the others, and told what follows.

`python -m nexa_infra.health.join`, a JoinOrder as JSON on stdin; prints a JoinAnswer as one line of JSON. A program of
its own: what it asks may hang in the kernel, and whoever started it must be able to leave it behind.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from nexa_contracts.clock import SystemClock
from nexa_contracts.errors import NexaError, StorageError
from nexa_contracts.health import HealthReport, HealthRequest
from nexa_contracts.rendezvous import JoinAnswer, JoinDecision, JoinOrder
from nexa_infra.health.decision import blame_alone, describe_problems, explain_refusals, find_blamed
from nexa_infra.health.ledger import Ledger
from nexa_infra.health.rendezvous import Meeting, Node, NodeRefused, TooFewNodes, locate_report, meet
from nexa_infra.health.run import check_node
from nexa_infra.health.sources import Sources
from nexa_infra.process import SystemRunner
from nexa_infra.storage.atomic import replace_file

_HOW_TO_GO_ON = (
    "a result that says `unknown` for ever: health.accept_unknown in nexa.yaml; no check: check_nodes: false"
)


def main() -> int:
    """Print the line and return 0, whatever came of it."""
    order = JoinOrder.model_validate_json(sys.stdin.buffer.read())
    sources = Sources(runner=SystemRunner(), clock=SystemClock(), environment=dict(os.environ))
    sys.stdout.write(join(order, sources).model_dump_json() + "\n")
    return 0


def join(order: JoinOrder, sources: Sources) -> JoinAnswer:
    """Return what follows for this node; it never raises for what is wrong with it."""
    if order.plan.request is None:
        return JoinAnswer(state="go", joined=order.nodes)
    try:
        return _Joining(order, order.plan.request, sources).run()
    except StorageError as error:
        # The name of the error tells the job entry, which reads the log, what kind of failure this is.
        return JoinAnswer(state="leave", words=f"StorageError: {order.node} cannot report: {error}")
    except NexaError as error:
        return JoinAnswer(state="leave", words=f"{order.node} does not join: {error}")


class _Joining:
    def __init__(self, order: JoinOrder, request: HealthRequest, sources: Sources) -> None:
        self._order = order
        self._request = request.model_copy(update={"node": order.node})
        self._sources = sources

    def run(self) -> JoinAnswer:
        report = check_node(self._sources, self._request)
        return self._judge_alone(report) if len(self._order.nodes) == 1 else self._meet(report)

    def _judge_alone(self, report: HealthReport) -> JoinAnswer:
        node = self._order.node
        replace_file(locate_report(Path(self._order.folder), node), report.to_json().encode())
        if report.is_healthy:
            return JoinAnswer(state="go", joined=self._order.nodes)
        blame = blame_alone(report)
        self._record({} if blame is None else {node: blame})
        why = describe_problems(report)
        return _stop({node: why}, f"{node}: {why}")

    def _meet(self, report: HealthReport) -> JoinAnswer:
        order, plan = self._order, self._order.plan
        meeting = Meeting(Path(order.folder), order.nodes, order.wanted, report_s=plan.report_s, join_s=plan.join_s)
        gpus = (self._request.gpus or 0) if plan.all_reduce else 0
        try:
            decision = meet(meeting, Node(order.node, order.node, gpus, self._sources), report)
        except NodeRefused as error:
            return JoinAnswer(state="leave", words=error.message)
        except TooFewNodes as error:
            self._speak(error.decision)
            return _stop(error.decision.refused, error.decision.reason)
        self._speak(decision)
        return JoinAnswer(state="go", joined=decision.joined, words=_describe(decision))

    def _speak(self, decision: JoinDecision) -> None:
        # All know the same; the first of those that are able writes it down.
        if self._order.node in (*decision.joined, *decision.spares)[:1]:
            self._record(find_blamed(self._order.nodes, decision))

    def _record(self, blamed: dict[str, str]) -> None:
        if self._order.plan.ledger is None:
            return
        ledger, now = Ledger(Path(self._order.plan.ledger)), self._sources.clock.now()
        for node, why in blamed.items():
            try:
                ledger.record_failure(node, job=self._order.run_id, reason=why, now=now)
            except NexaError as error:
                sys.stderr.write(f"nexa: the quarantine ledger: {error}\n")


def _stop(refused: dict[str, str], reason: str) -> JoinAnswer:
    words = f"the training does not start: {reason}"
    return JoinAnswer(state="stop", words=words, evidence=explain_refusals(refused))


def _describe(decision: JoinDecision) -> str:
    left_out = [f"{node} is left out: {why}" for node, why in decision.refused.items()]
    return "; ".join([f"training on {', '.join(decision.joined)}", *left_out, *decision.warnings])


if __name__ == "__main__":
    sys.exit(main())
