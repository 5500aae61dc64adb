"""Runs and sweeps as the index answers with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple


class RunRow(NamedTuple):
    """A run as the index knows it; what it holds is decoded when it is looked at, for 100,000 rows would be slow.

    Times are Unix seconds. None means not known, or not yet.
    """

    run_id: str
    asked_json: str
    """Of the manifest."""
    ended_json: str | None
    """Of the outcome; None until there is one."""
    costed_json: str | None
    """Of the cost manifest; None until there is one."""

    @property
    def asked(self) -> Mapping[str, Any]:
        """What was frozen at launch."""
        return _decode(self.asked_json)

    @property
    def ended(self) -> Mapping[str, Any]:
        """How the run ended; empty until it has an outcome."""
        return _decode(self.ended_json)

    @property
    def name(self) -> str:
        """The config's name."""
        return str(self.asked["name"])

    @property
    def sweep_id(self) -> str | None:
        """The sweep it belongs to."""
        return self.asked.get("sweep_id")

    @property
    def member(self) -> int | None:
        """Its index in the sweep."""
        return self.asked.get("index")

    @property
    def backend(self) -> str:
        """Where it was launched."""
        return str(self.asked["backend"])

    @property
    def gpu_type(self) -> str | None:
        """The GPU type that was asked for."""
        return self.asked.get("gpu_type")

    @property
    def gpus(self) -> int:
        """GPUs of all nodes."""
        return int(self.asked["gpus"])

    @property
    def estimate_usd(self) -> float | None:
        """The bound before launch; None: the rate is unknown."""
        return self.asked.get("estimate_usd")

    @property
    def hourly_usd(self) -> float | None:
        """What an hour of it costs, at the rate it was launched with; None: the rate is unknown."""
        return self.asked.get("hourly_usd")

    @property
    def resumes(self) -> str | None:
        """The run it goes on from."""
        return self.asked.get("resumes")

    @property
    def point(self) -> dict[str, Any]:
        """The sweep point, by dotted config key; what a study chose is known when the run has ended."""
        return dict(self.asked["point"] or self.ended.get("point", {}))

    @property
    def pruned_at_step(self) -> int | None:
        """The step at which the sweep's pruner ended it."""
        return self.ended.get("pruned_at_step")

    @property
    def tags(self) -> dict[str, str]:
        """The config's tags."""
        return dict(self.asked["tags"])

    @property
    def created_s(self) -> float:
        """When the run was launched, in Unix seconds."""
        return float(self.asked["created_s"])

    @property
    def created_at(self) -> datetime:
        """When the run was launched, in UTC."""
        return datetime.fromtimestamp(self.created_s, UTC)

    @property
    def ended_at(self) -> datetime | None:
        """When the run ended, in UTC."""
        ended_s = self.ended.get("ended_s")
        return None if ended_s is None else datetime.fromtimestamp(ended_s, UTC)

    @property
    def state(self) -> str | None:
        """The final state."""
        return self.ended.get("state")

    @property
    def seconds(self) -> float | None:
        """Measured seconds of all attempts together."""
        return self.ended.get("seconds")

    @property
    def attempts(self) -> int | None:
        """How often it was started."""
        return self.ended.get("attempts")

    @property
    def steps(self) -> int | None:
        """Training steps done."""
        return self.ended.get("steps")

    @property
    def tokens(self) -> int | None:
        """Tokens trained on."""
        return self.ended.get("tokens")

    @property
    def failure(self) -> str | None:
        """`kind: message` of what ended it badly."""
        return self.ended.get("failure")

    @property
    def metrics(self) -> dict[str, float]:
        """The final metrics; empty until the run has an outcome."""
        return dict(self.ended.get("metrics", {}))

    @property
    def loss(self) -> float | None:
        """The final training loss."""
        return self.metrics.get("loss")

    @property
    def eval_loss(self) -> float | None:
        """The final loss on held-out rows."""
        return self.metrics.get("eval_loss")

    @property
    def total_usd(self) -> float | None:
        """What it cost; None too when its rate is unknown, which `is_costed` tells apart."""
        return _decode(self.costed_json).get("total_usd")

    @property
    def is_costed(self) -> bool:
        """Whether there is a cost manifest."""
        return self.costed_json is not None


class SweepRow(NamedTuple):
    """A sweep as the index knows it."""

    sweep_id: str
    name: str
    created_s: float
    run_count: int
    metric: str
    direction: str


@lru_cache(maxsize=16)
def _decode(text: str | None) -> dict[str, Any]:
    # Kept for the row at hand, whose properties are looked at one after the other; nobody changes what is returned.
    return {} if text is None else dict(json.loads(text))
