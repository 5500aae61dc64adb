"""What a loss on held-out rows means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

_TIMES = ("runtime", "samples_per_second", "steps_per_second", "num_tokens", "_time")


@dataclass(frozen=True, slots=True)
class EvaluationReading:
    """How the evaluation loss of a kind of training is read."""

    is_likelihood: bool
    """Whether it is the mean negative log-likelihood of a token, in nats."""
    bytes_per_token: float | None = None
    """Of the evaluation split; None where a byte has no meaning."""


def read_evaluation(logs: Mapping[str, float], reading: EvaluationReading) -> dict[str, float | None]:
    """Return an evaluation's metrics: the loss first, then perplexity and bits a byte where they mean something.

    Bits a byte compare across vocabularies, which a loss for each token does not.
    """
    loss = logs["eval_loss"]
    metrics: dict[str, float | None] = {"eval_loss": loss}
    if reading.is_likelihood:
        metrics["eval_perplexity"] = math.exp(loss) if loss < 700 else None
    if reading.bytes_per_token:
        metrics["eval_bits_per_byte"] = loss / math.log(2) / reading.bytes_per_token
    for name, value in logs.items():
        if name.startswith("eval_") and not name.endswith(_TIMES):
            metrics.setdefault(name, value)
    return metrics
