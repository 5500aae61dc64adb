"""A sweep as a person writes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from nexa_contracts.base import Contract, Name, Part, Scalar
from nexa_contracts.run import RunConfig

_Whole = int  # the class below has a field of that name


class Axis(Part):
    """The values one config key takes: exactly one of the five kinds."""

    values: tuple[Scalar, ...] | None = Field(default=None, min_length=1)
    """Listed values: every one in a grid, drawn with equal chance in a random search (then also named choice)."""
    choice: tuple[Scalar, ...] | None = Field(default=None, min_length=1)
    """Listed values, one drawn with equal chance for each sample."""
    uniform: tuple[float, float] | None = None
    """A number between low and high, every one with equal chance."""
    log_uniform: tuple[float, float] | None = None
    """A number between low and high, every order of magnitude with equal chance."""
    int: tuple[_Whole, _Whole] | None = None
    """Whole numbers from the first to the last, both included."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [name for name in ("values", "choice", "uniform", "log_uniform", "int") if getattr(self, name)]
        if len(kinds) != 1:
            raise ValueError(f"give exactly one of values, choice, uniform, log_uniform, int; found {kinds or 'none'}")
        bounds = self.uniform or self.log_uniform or self.int
        if bounds is not None and not bounds[0] < bounds[1]:
            one = f", or values: [{bounds[0]}]" if bounds[0] == bounds[1] else ""
            raise ValueError(f"found {list(bounds)}; allowed: [low, high] with low < high{one}")
        if self.log_uniform is not None and self.log_uniform[0] <= 0:
            raise ValueError(f"log_uniform: found {self.log_uniform[0]}; allowed: a low bound above 0")
        if self.int is not None and self.int[1] - self.int[0] > 2**53:
            raise ValueError("int: the range is wider than 2**53")
        return self

    @model_validator(mode="after")
    def _can_be_sampled(self) -> Self:
        bounds = self.uniform or self.log_uniform
        if bounds is None:
            return self
        low, high = bounds
        width = high - low if self.log_uniform is None else high / low
        if math.isinf(width):
            raise ValueError(f"found {list(bounds)}; allowed: bounds whose distance is a number a float can hold")
        if f"{low:.6g}" == f"{high:.6g}":  # every sample would be the same
            raise ValueError(f"found {list(bounds)}; allowed: bounds that differ in the six digits a sample has")
        return self

    @property
    def listed(self) -> Sequence[Scalar]:
        """Every value of the axis in its order; none where it is a range of real numbers."""
        if self.int is not None:
            return range(self.int[0], self.int[1] + 1)
        return self.values or self.choice or ()


def _check_in_search(axis: Axis, info: ValidationInfo) -> Axis:
    # Fields are judged in their order, so the search is known here; a wrong one has its own line.
    if info.data.get("search") == "tpe":
        _check_told_apart(axis)
    if info.data.get("pruner", "none") != "none" or info.data.get("search") == "tpe":
        _check_exact(axis)
    if info.data.get("search") != "grid":
        return axis
    if not axis.listed:
        raise ValueError("a grid needs listed values or an int range; ranges of real numbers are for search: random")
    seen: set[tuple[type, Scalar]] = set()
    for value in axis.values or axis.choice or ():
        if (type(value), value) in seen:
            raise ValueError(f"{value!r} stands twice; a grid runs each value once, so keep one")
        seen.add((type(value), value))
    return axis


def _check_told_apart(axis: Axis) -> None:
    listed = axis.values or axis.choice or ()
    for place, value in enumerate(listed):
        if value in listed[:place]:
            raise ValueError(f"{value!r} equals another value; search: tpe tells values apart by equality, so keep one")


def _check_exact(axis: Axis) -> None:
    if axis.int is not None and max(map(abs, axis.int)) > 2**53:
        raise ValueError("int: a study keeps numbers as floats; allowed with a pruner or search: tpe: at most 2**53")


class Objective(Part):
    """What makes one trial better than another."""

    metric: str = "eval_loss"
    """A name among the metrics of a run's outcome."""
    direction: Literal["minimize", "maximize"] = "minimize"
    """Whether less or more is better."""

    def is_better(self, one: float, other: float) -> bool:
        """Whether `one` beats `other`; NaN beats nothing."""
        if math.isnan(one):
            return False
        if math.isnan(other):
            return True
        return one < other if self.direction == "minimize" else one > other


class SweepConfig(Contract):
    """Many runs from one file: a base run config and the axes that vary."""

    name: Name = "sweep"
    """What the sweep is called in lists."""
    description: str = Field(default="", max_length=2000)
    """A sentence for whoever reads the record later."""
    base: str | None = None
    """Path of a run config, relative to this file."""
    run: RunConfig | None = None
    """A run config written here; exactly one of base and run."""
    search: Literal["grid", "random", "tpe"] = "grid"
    """All points of a grid; random samples; or tpe: each point is chosen when its run starts, by what the others have
    reached until then (needs the extra `search`)."""
    trials: int | None = Field(default=None, ge=1, le=10_000_000)
    """Number of samples of a random or tpe search; not for a grid."""
    pruner: Literal["none", "asha", "median", "hyperband"] = "none"
    """Ends runs early that fall behind the others, judged by the objective's metric in their metrics.jsonl, else by
    `loss`; with any search (needs the extra `search`)."""
    prune_after_steps: int | None = Field(default=None, ge=1)
    """No run is pruned before so many steps; None: the pruner's own choice."""
    seed: int = Field(default=17, ge=0, le=2**32 - 1)
    """Decides the samples of a random search: the same seed gives the same points. A tpe search repeats its points only
    when the runs end in the same order."""
    axes: dict[str, Annotated[Axis, AfterValidator(_check_in_search)]] = Field(min_length=1)
    """By dotted config key; in a grid the last one varies fastest."""
    objective: Objective = Objective()
    """What the trials are ranked by."""
    max_parallel: int | None = Field(default=None, ge=1)
    """At most so many runs at a time, resumed ones included; None: as many as the machine's resources admit."""
    tags: dict[str, str] = {}
    """Labels every run of the sweep gets."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.base is None) == (self.run is None):
            raise ValueError("give exactly one of base and run")
        if self.search != "grid":
            if self.trials is None:
                raise ValueError(f"trials missing: a {self.search} search needs the number of samples")
        elif self.trials is not None:
            raise ValueError("trials is for search: random and tpe; a grid has as many as its product")
        if self.prune_after_steps is not None and self.pruner == "none":
            raise ValueError("prune_after_steps is for a pruner; give pruner: asha, median or hyperband")
        return self

    @property
    def is_adaptive(self) -> bool:
        """Whether points are chosen when their runs start, and not at launch."""
        return self.search == "tpe"

    @property
    def has_study(self) -> bool:
        """Whether the runs are trials of an Optuna study."""
        return self.is_adaptive or self.pruner != "none"


class SweepManifest(Contract):
    """`sweep_<id>.json`: frozen at launch; member i of the sweep is always the same point."""

    sweep_id: str
    name: str
    created_at: datetime
    config: SweepConfig
    base_config: RunConfig
    config_source: str
    count: int
    max_parallel: int | None = None


class PointRecord(Contract):
    """`point.json` of a run that is a trial of a study: created once, before its first attempt starts its program."""

    run_id: str
    sweep_id: str
    trial: int = Field(ge=0)
    """Number of the trial in the study."""
    point: dict[str, Scalar]
    """What the run was given, by dotted config key; `config.json` holds it."""
    asked_at: datetime
