"""What the kinds of training have in common: a model, its data, and how its numbers are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nexa_train.evaluation import EvaluationReading

TokenCount = Callable[[Any, dict[str, float]], int]
"""Tokens trained on so far, of the Trainer's state and its newest logs; all processes together."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """The parts a Trainer is put together from."""

    trainer_class: Any
    arguments_class: Any
    model: Any
    tokenizer: Any
    train_data: Any
    eval_data: Any
    """None: no row is held out."""
    count_tokens: TokenCount
    reading: EvaluationReading
    arguments: dict[str, Any] = field(default_factory=dict)
    """Added to those every kind has."""
    trainer_options: dict[str, Any] = field(default_factory=dict)


def count_reported_tokens(state: Any, logs: dict[str, float]) -> int:
    """Return the tokens TRL says it has seen, padding not counted."""
    return int(logs.get("num_tokens", state.num_input_tokens_seen))
