"""What a node is to blame for: written into the cluster's quarantine ledger, once for each run that it failed."""

from __future__ import annotations

import logging
import re

from nexa_contracts.errors import NexaError
from nexa_contracts.states import JobState
from nexa_infra.scheduling.entry import Entry
from nexa_infra.scheduling.records import Attempt

logger = logging.getLogger(__name__)

_BROKEN_GPU = re.compile(r"uncorrectable (?:ECC|NVLink) error|NVRM: Xid|GPU has fallen off the bus|GPU is lost")
"""What CUDA, the driver and nvidia-smi say of hardware that broke; a program cannot bring it about.

Source: https://docs.nvidia.com/cuda/cuda-runtime-api/ (cudaErrorECCUncorrectable, cudaErrorNvlinkUncorrectable).
"""


def find_fault(attempt: Attempt, *, nodes: int) -> str | None:
    """Return what of an attempt's end can be its node's doing; None for nothing.

    Nodes that were refused before the start have been written down there. Of several nodes a log does not say whose
    GPU broke: the check before the next start finds that.
    """
    failure = attempt.failure
    if failure is None:
        return None
    if attempt.state is JobState.NODE_FAILED and failure.kind == "lost":
        return failure.message
    said = (failure.message, *failure.evidence) if nodes == 1 else ()
    return next((line for line in said if _BROKEN_GPU.search(line)), None)


def record_fault(entry: Entry, attempt: Attempt, *, node: str | None = None) -> None:
    """Write down what the node of an attempt, or the one that is named, is to blame for, where there is a ledger.

    A ledger that cannot be written is told, and keeps nothing from going on.
    """
    reason = find_fault(attempt, nodes=entry.nodes)
    name = node or attempt.hostname
    if entry.ledger is None or reason is None or not name:
        return
    from nexa_infra.health.ledger import Ledger  # with it comes pydantic

    try:
        Ledger(entry.ledger).record_failure(name, job=entry.run_id, reason=reason, now=attempt.ended_at)
    except NexaError as error:
        logger.warning("node is not recorded in the quarantine ledger node=%s run_id=%s: %s", name, entry.run_id, error)
