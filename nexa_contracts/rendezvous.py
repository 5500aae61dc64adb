"""What the nodes of one training tell each other through files before it starts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nexa_contracts.base import Contract, Part
from nexa_contracts.health import HealthPlan


class JoinDecision(Contract):
    """Which nodes go on, as one of them wrote it for all; created exclusively, so that there is one a round."""

    round: int = Field(ge=0)
    """From 0, which follows the reports; each later one follows an exchange or an all-reduce."""
    state: Literal["try", "go", "stop"]
    """`try`: the joined ones try each other; `go`: training may start; `stop`: it must not."""
    joined: tuple[str, ...] = ()
    """The nodes of the training, in the order of their ranks."""
    spares: tuple[str, ...] = ()
    """Healthy nodes that are not needed so far."""
    refused: dict[str, str] = {}
    """Why a node does not join, by its name."""
    unmeasured: tuple[str, ...] = ()
    """Those of the refused of which nothing bad is known: something could not be found out."""
    warnings: tuple[str, ...] = ()
    """What does not keep anybody out."""
    reason: str = ""
    """Why it stops."""


class JoinSign(Contract):
    """A node is about to try the others of a round."""

    node: str
    """Its name."""
    round: int = Field(ge=0)
    """The round it joins."""
    address: str
    """Host name or address under which the others reach it."""
    port: int = Field(ge=1, le=65535)
    """Where this node answers the others; in an all-reduce the first node's is where all meet."""
    processes: int = Field(ge=1)
    """Of this node in the all-reduce: one for each GPU."""


class JoinResult(Contract):
    """What the exchange or the all-reduce of a round came to on one node."""

    node: str
    """Its name."""
    round: int = Field(ge=0)
    """The round it was of."""
    is_done: bool
    """Whether everything arrived, and the sum came out right."""
    is_own_fault: bool = False
    """Whether what failed is this node's alone, as a package that is missing."""
    words: str = ""
    """What failed."""
    unreached: tuple[str, ...] = ()
    """The nodes that this one did not reach."""
    ahead_s: float | None = None
    """How far this node's clock is ahead of the median of all."""
    all_reduce_gb_s: float | None = None
    """Bus bandwidth of the all-reduce."""


class JoinOrder(Part):
    """What a node is told that checks itself before a distributed start, and meets the others if there are any."""

    plan: HealthPlan
    """What it is checked for, and how long anything may take."""
    run_id: str
    """The run that is about to start."""
    folder: str
    """Where the nodes meet: this attempt's own."""
    node: str
    """This node, as the others know it."""
    nodes: tuple[str, ...]
    """Everyone who may come, spares included, in the order of their ranks."""
    wanted: int = Field(ge=1)
    """How many train."""


class JoinAnswer(Contract):
    """What follows for one node."""

    state: Literal["go", "leave", "stop"]
    """`go`: it trains; `leave`: the others do, or try to; `stop`: nobody does."""
    joined: tuple[str, ...] = ()
    """The nodes of the training, in the order of their ranks."""
    words: str = ""
    """Why, on one line."""
    evidence: tuple[str, ...] = ()
    """A line for each node that was refused, and what to do."""
