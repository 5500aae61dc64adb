"""A sweep's points: a grid or joint random samples, each a pure function of its index."""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from nexa_contracts.base import Scalar
from nexa_contracts.config import Override, apply_point, find_model, load_config, parse_config
from nexa_contracts.errors import ConfigError
from nexa_contracts.run import RunConfig
from nexa_contracts.sweep import Axis, SweepConfig
from nexa_contracts.yaml_text import Document, read_yaml

Point = dict[str, Scalar]
"""The value of every axis of one run, by dotted config key."""

_ONLY_IN_RUNS = RunConfig.model_fields.keys() - SweepConfig.model_fields.keys()
MAX_POINTS = 10_000_000
"""Largest grid; the same bound as `SweepConfig.trials`."""
_BITS = 53
_CONTEXTS = 32
"""In how many whole points a value is tried when it does not fit the base config alone."""


class Search(Protocol):
    """Who chooses the points. Grid and random search answer from the index alone; an adaptive one listens.

    `ask` is called once per index in rising order; a search that learns may answer from what it was told so far, so
    whoever drives it records the answers. `SweepDefinition` may be asked in any order, from any process.
    """

    def ask(self, index: int) -> Point:
        """Return the point of run `index`, from 0."""
        ...

    def tell(self, index: int, value: float) -> None:
        """Hear the objective that run `index` reached."""
        ...


@dataclass(frozen=True, slots=True)
class SweepDefinition:
    """The expansion of a sweep: knows how many points there are and each of them, and holds none of them."""

    search: str
    axes: tuple[tuple[str, Axis], ...]
    count: int
    seed: int
    _samplers: tuple[tuple[str, Callable[[int], Scalar]], ...] = field(compare=False, repr=False)

    def __len__(self) -> int:
        return self.count

    def points(self) -> Iterator[Point]:
        """Return every point in order, made one at a time; point i belongs to array index i, from 0."""
        return (self.point(index) for index in range(self.count))

    def point(self, index: int) -> Point:
        """Return point `index`, the same on every machine and at every call, in time that does not grow with it.

        In a grid the last axis varies fastest. A random point depends on the seed, its index and each axis by name:
        more trials keep the first ones, and another axis leaves the values of the others as they were.

        Raises:
            IndexError: there is no such point.
        """
        if not 0 <= index < self.count:
            raise IndexError(f"point {index} of {self.count}")
        if self.search == "grid":
            return self._grid_point(index)
        mark = f"{self.seed}:{index}:"
        return {key: sample(_draw(mark + key)) for key, sample in self._samplers}

    def ask(self, index: int) -> Point:
        """Return point `index`: this search satisfies `Search`."""
        return self.point(index)

    def tell(self, index: int, value: float) -> None:
        """Change nothing: neither a grid nor a random search learns."""

    def _grid_point(self, index: int) -> Point:
        values: list[Scalar] = []
        for _, axis in reversed(self.axes):
            listed = _listed(axis)
            index, digit = divmod(index, len(listed))
            values.append(listed[digit])
        return {key: value for (key, _), value in zip(self.axes, reversed(values), strict=True)}


def define_sweep(config: SweepConfig, *, source: str) -> SweepDefinition:
    """Return the expansion of a sweep config; whether its points fit a run config is for `check_points`.

    Raises:
        ConfigError: the grid is too large, or lists a value twice.
    """
    axes = tuple(config.axes.items())
    count = config.trials or 0
    if config.search == "grid":
        for key, axis in axes:
            _check_distinct(axis, f"{source}: axes.{key}")
        count = math.prod(len(_listed(axis)) for _, axis in axes)
        if count > MAX_POINTS:
            raise ConfigError(f"{source}: axes: the grid has {count} points; allowed: at most {MAX_POINTS}")
    samplers = tuple((key, _sampler(axis)) for key, axis in axes)
    return SweepDefinition(config.search, axes, count=count, seed=config.seed, _samplers=samplers)


def load_sweep(path: Path, overrides: Sequence[Override] = ()) -> tuple[SweepConfig, RunConfig, SweepDefinition]:
    """Return the sweep in a file, the run config it varies, and its expansion.

    An override whose first word is a key of the sweep file (`trials=4`) changes the sweep, any other the base config.

    Raises:
        NotFound: the file or its base does not exist.
        ConfigError: a wrong key or value, of the file, of its base, or of an axis; one line each.
    """
    document = read_yaml(path)
    if isinstance(document.data, dict) and "axes" not in document.data and document.data.keys() & _ONLY_IN_RUNS:
        raise ConfigError(f"{path}: found a run config; allowed: a sweep, with axes", hint=f"nexa launch {path}")
    mine, base_overrides = _split_overrides(overrides)
    if isinstance(document.data, dict) and document.data.get("base") is None:
        mine += [Override(key=f"run.{item.key}", value=item.value, text=item.text) for item in base_overrides]
        base_overrides = []
    config = parse_config(document, SweepConfig, overrides=mine)
    if config.run is not None:
        is_named = "name" in config.run.model_fields_set
        base = config.run if is_named else config.run.model_copy(update={"name": config.name})
    else:
        base = load_config(path.parent / str(config.base), RunConfig, overrides=base_overrides)
    definition = define_sweep(config, source=str(path))
    check_points(definition, base, document=document)
    return config, base, definition


def check_points(definition: SweepDefinition, base: RunConfig, *, document: Document) -> None:
    """Judge every axis against the run schema: its key, and each listed value or both bounds.

    A value that fits only together with another axis (a width and its heads) is tried inside whole points.

    Raises:
        ConfigError: one line for each wrong key or value.
    """
    problems: list[str] = []
    for key, axis in definition.axes:
        line = document.lines.get(("axes", key))
        where = f"{document.source}:{line}" if line is not None else document.source
        unknown = _find_unknown(key)
        if unknown is not None:
            problems.append(f"{where}: axes.{key}: {unknown}")
            continue
        found = (_find_misfit(definition, base, key, value, where) for value in _values_to_check(axis))
        problems.extend(problem for problem in found if problem is not None)
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))


def _listed(axis: Axis) -> Sequence[Scalar]:
    if axis.int is not None:
        return range(axis.int[0], axis.int[1] + 1)
    return axis.values or axis.choice or ()


def _draw(mark: str) -> int:
    # A hash and not a generator's stream: no state to carry, 1 µs, and the same bits on every machine.
    return int.from_bytes(hashlib.sha256(mark.encode()).digest()[:8], "big") >> (64 - _BITS)


def _sampler(axis: Axis) -> Callable[[int], Scalar]:
    """Return what turns 53 random bits into a value of the axis."""
    if axis.uniform is not None:
        low, high = axis.uniform
        return lambda bits: _readable(low + (high - low) * (bits / 2**_BITS), low, high)
    if axis.log_uniform is not None:
        low, high = axis.log_uniform
        ratio = math.log(high / low)
        return lambda bits: _readable(low * math.exp(ratio * (bits / 2**_BITS)), low, high)
    listed = _listed(axis)
    size = len(listed)
    return lambda bits: listed[bits * size >> _BITS]


def _readable(value: float, low: float, high: float) -> float:
    # Six digits are more than any learning rate needs, read well in a table, and hide the last bit in which the
    # exp() of two machines may differ.
    rounded = float(f"{value:.6g}")
    return rounded if low <= rounded <= high else min(high, max(low, rounded))


def _split_overrides(overrides: Sequence[Override]) -> tuple[list[Override], list[Override]]:
    mine: list[Override] = []
    base: list[Override] = []
    for override in overrides:
        first, _, rest = override.key.partition(".")
        if first == "axes" and rest:
            raise ConfigError(
                f"--set {override.key}={override.text}: the key of an axis has dots of its own; "
                "allowed: --set 'axes={training.learning_rate: {values: [1e-4, 3e-4]}}'"
            )
        (mine if first in SweepConfig.model_fields else base).append(override)
    return mine, base


def _check_distinct(axis: Axis, where: str) -> None:
    seen: set[tuple[type, Scalar]] = set()
    for value in axis.values or axis.choice or ():
        if (type(value), value) in seen:
            raise ConfigError(f"{where}: {value!r} stands twice; a grid runs each value once, so keep one")
        seen.add((type(value), value))


def _find_unknown(key: str) -> str | None:
    path = key.split(".")
    for end in range(len(path)):
        model = find_model(RunConfig, path[:end])
        if model is None:
            return None  # plain data (params, tags, env) or a leaf; applying a value judges the rest
        names = [name for name in model.model_fields if name != "schema_version"]
        if path[end] not in names:
            close = difflib.get_close_matches(path[end], names, n=1, cutoff=0.6)
            nearest = f"did you mean {'.'.join([*path[:end], close[0]])}? " if close else ""
            return f"unknown key; {nearest}allowed: {', '.join(names)}"
    return None


def _values_to_check(axis: Axis) -> Sequence[Scalar]:
    bounds: Sequence[Scalar] | None = axis.uniform or axis.log_uniform or axis.int
    return bounds if bounds is not None else _listed(axis)


def _find_misfit(definition: SweepDefinition, base: RunConfig, key: str, value: Scalar, where: str) -> str | None:
    try:
        apply_point(base, {key: value}, source=where)
    except ConfigError as error:
        first = error
    else:
        return None
    for step in range(min(_CONTEXTS, len(definition))):
        whole = {**definition.point(step * len(definition) // _CONTEXTS), key: value}
        try:
            apply_point(base, whole, source=where)
        except ConfigError:
            continue
        return None
    return _blame_axis(str(first).splitlines()[0], key, value, where)


def _blame_axis(line: str, key: str, value: Scalar, where: str) -> str:
    # apply_point speaks of `--set key=value`; here the value stands in the sweep file.
    _, _, reason = line.partition(f"--set {key}={value}: ")
    text = (reason or line.removeprefix(f"{where}: ")).removeprefix(f"{key}: ")
    return f"{where}: axes.{key}: {text}" if text.startswith("found") else f"{where}: axes.{key}: {value!r}: {text}"
