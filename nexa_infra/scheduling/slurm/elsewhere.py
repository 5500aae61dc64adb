"""A job whose nodes were refused: put back into the queue, to start on others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from nexa_contracts.clock import Clock
from nexa_contracts.errors import ExternalError, NexaError
from nexa_infra.scheduling.attempting import say
from nexa_infra.scheduling.records import Attempt
from nexa_infra.scheduling.slurm.client import SlurmClient
from nexa_infra.storage.run_dir import RunDir

_NOTHING = frozenset({"", "(null)", "None"})
_TRIES = 5
_AGAIN_S = 0.5
"""A job that was just put back may still be completing, and takes no change then."""


class Elsewhere:
    """The nodes that one job must not get again."""

    def __init__(self, client: SlurmClient, job_id: str, *, clock: Clock) -> None:
        self._client = client
        self._job_id = job_id
        self._clock = clock
        self._nodes: tuple[str, ...] = ()

    def move_from(self, nodes: Sequence[str]) -> str | None:
        """Let the job leave these nodes out when it starts again; return why it would never start, None when it can.

        Of a controller that does not answer nothing is known: the job goes back into the queue.
        """
        if not nodes:
            return "most of its nodes were refused at once, as others would be"
        self._nodes = tuple(nodes)
        try:
            fields = self._client.show_job(self._job_id)
            wanted = re.match(r"[0-9]+", fields.get("NumNodes", ""))
            partitions = fields.get("Partition", "").split(",")
            groups = self._client.list_partitions(without=self._left_out(fields))
        except ExternalError:
            return None
        left = sum(group.nodes for group in groups if group.partition in partitions)
        if wanted is None or left >= int(wanted[0]):
            return None
        return f"without {', '.join(self._nodes)} partition {','.join(partitions)} has {left} of {wanted[0]} nodes"

    def keep_off(self) -> None:
        """Tell the controller to leave them out, of a job that is in the queue; where it cannot be told, they are
        refused again.
        """
        if not self._nodes:
            return
        error: NexaError | None = None
        for _ in range(_TRIES):
            try:
                self._client.exclude(self._job_id, self._left_out(self._client.show_job(self._job_id)))
            except ExternalError as again:
                error = again
                self._clock.sleep(_AGAIN_S)
            else:
                return
        if error is not None:
            say(error)

    def _left_out(self, fields: dict[str, str]) -> tuple[str, ...]:
        before = fields.get("ExcNodeList", "")
        known = () if before in _NOTHING else self._client.expand_hosts(before)
        return tuple(dict.fromkeys((*known, *self._nodes)))


def find_refused(run_dir: RunDir, attempt: Attempt) -> tuple[str, ...]:
    """Return the nodes that kept an attempt from starting; none where most were refused, which is no node's doing.

    Raises:
        ConfigError, StorageError: what its nodes decided cannot be read.
    """
    from nexa_infra.health.decision import find_unfit  # with them comes pydantic
    from nexa_infra.health.rendezvous import read_decision

    decision = read_decision(run_dir.meeting(attempt.number))
    if decision is None:
        return (attempt.hostname,)  # it was alone
    return tuple(find_unfit((*decision.joined, *decision.spares, *decision.refused), decision.refused))


def stay_put(attempt: Attempt, why: str) -> Attempt:
    """Return an attempt of nodes that failed as its run's outcome tells of it, when it is not tried on others."""
    if attempt.failure is None:
        return attempt
    message = f"{attempt.failure.message}; not tried on other nodes: {why}"
    return replace(attempt, failure=replace(attempt.failure, message=message))
