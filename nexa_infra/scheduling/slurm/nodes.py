"""Nodes that went down under a job: asked for by the job itself, and written down as theirs to answer for."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nexa_contracts.clock import Clock
from nexa_contracts.states import JobState
from nexa_infra.scheduling.blaming import record_fault
from nexa_infra.scheduling.entry import Entry
from nexa_infra.scheduling.records import Attempt, Failure
from nexa_infra.scheduling.slurm.client import SlurmClient

_DOWN = re.compile(r"down[^a-z]*")


class NodeClient(SlurmClient):
    """Asks of nodes besides, what only a job asks."""

    def list_down(self, nodelist: str) -> tuple[str, ...]:
        """Return which nodes of a list, as `gpu[01-03]`, are down."""
        argv = ["sinfo", "--noheader", "--Node", f"--nodes={nodelist}", "--format=%N %T"]
        lines = (line.split() for line in self._ask(argv).stdout.splitlines())
        # One line for each partition that a node is in; `down*` is one that does not answer either.
        down = (words[0] for words in lines if len(words) == 2 and _DOWN.fullmatch(words[1].lower()))
        return tuple(dict.fromkeys(down))


def blame_dead(entry: Entry, nodes: Sequence[str], *, clock: Clock) -> None:
    """Write down nodes that went down under a run, where there is a ledger."""
    for node in nodes:
        now = clock.now()
        gone = Attempt(
            run_id=entry.run_id,
            number=0,
            state=JobState.NODE_FAILED,
            started_at=now,
            ended_at=now,
            seconds=0.0,
            hostname=node,
            failure=Failure("lost", f"{node} went down under its job"),
        )
        record_fault(entry, gone, node=node)
