"""A sweep as a person writes it."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

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
            raise ValueError(f"found {list(bounds)}; allowed: [low, high] with low < high")
        if self.log_uniform is not None and self.log_uniform[0] <= 0:
            raise ValueError(f"log_uniform: found {self.log_uniform[0]}; allowed: a low bound above 0")
        if self.int is not None and self.int[1] - self.int[0] > 2**53:
            raise ValueError("int: the range is wider than 2**53")
        return self


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
    search: Literal["grid", "random"] = "grid"
    """All points of a grid, or random samples."""
    trials: int | None = Field(default=None, ge=1, le=10_000_000)
    """Number of samples of a random search; not for a grid."""
    seed: int = Field(default=17, ge=0, le=2**32 - 1)
    """Decides the samples of a random search: the same seed gives the same points."""
    axes: dict[str, Axis] = Field(min_length=1)
    """By dotted config key; in a grid the last one varies fastest."""
    objective: Objective = Objective()
    """What the trials are ranked by."""
    max_parallel: int | None = Field(default=None, ge=1)
    """At most so many runs at a time; None: as many as the machine's resources admit."""
    tags: dict[str, str] = {}
    """Labels every run of the sweep gets."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.base is None) == (self.run is None):
            raise ValueError("give exactly one of base and run")
        if self.search == "random":
            if self.trials is None:
                raise ValueError("trials missing: a random search needs the number of samples")
        else:
            if self.trials is not None:
                raise ValueError("trials is for search: random; a grid has as many as its product")
            for key, axis in self.axes.items():
                if axis.uniform or axis.log_uniform:
                    raise ValueError(f"axes.{key}: a grid needs listed values or an int range")
        return self


class SweepManifest(Contract):
    """`sweep_<id>.json`: frozen at launch; member i of the sweep is always the same point."""

    sweep_id: str
    name: str
    created_at: str
    config: SweepConfig
    base_config: RunConfig
    config_source: str
    count: int
    max_parallel: int | None = None
