"""A sweep's points: a grid or joint random samples, each a pure function of its index."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from struct import Struct
from typing import Any, Protocol, TypeVar

from pydantic import ValidationError

from nexa_contracts.base import Part, Scalar
from nexa_contracts.config import Override, load_config, parse_config, set_key
from nexa_contracts.errors import ConfigError, NotFound, UnsupportedSchema
from nexa_contracts.run import RunConfig
from nexa_contracts.sweep import Axis, SweepConfig
from nexa_contracts.yaml_text import Document, read_yaml
from nexa_infra.scheduling.points import Point, find_axis_problems, find_late_axes

ResultT = TypeVar("ResultT")
PartT = TypeVar("PartT", bound=Part)

_ONLY_IN_RUNS = RunConfig.model_fields.keys() - SweepConfig.model_fields.keys()
MAX_POINTS = 10_000_000
"""Largest grid; the same bound as `SweepConfig.trials`."""
_BITS = 53
_UNIT = 2.0**-_BITS
_first_8 = Struct(">Q").unpack_from
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
    _digits: tuple[tuple[str, Sequence[Scalar], int, int], ...] = field(compare=False, repr=False)
    """Of a grid: key, values, how many points each value stays, and how many values there are."""
    _samplers: tuple[tuple[str, bytes, Callable[[int], Scalar]], ...] = field(compare=False, repr=False)
    """Of a random search: key, the key as it is hashed, and what makes a value of random bits."""

    def __len__(self) -> int:
        return self.count

    def points(self) -> Iterator[Point]:
        """Return every point in order, made one at a time; point i belongs to array index i, from 0."""
        return map(self._make_point, range(self.count))

    def point(self, index: int) -> Point:
        """Return point `index`, the same on every machine and at every call, in time that does not grow with it.

        In a grid the last axis varies fastest. A random point depends on the seed, its index and each axis by name:
        more trials keep the first ones, and another axis leaves the values of the others as they were. In an adaptive
        search every point is empty: its run asks for it.

        Raises:
            IndexError: there is no such point.
        """
        if not 0 <= index < self.count:
            raise IndexError(f"point {index} of {self.count}")
        return self._make_point(index)

    def ask(self, index: int) -> Point:
        """Return point `index`: this search satisfies `Search`."""
        return self.point(index)

    def tell(self, index: int, value: float) -> None:
        """Change nothing: neither a grid nor a random search learns."""

    def _make_point(self, index: int) -> Point:
        if self.search == "tpe":
            return {}  # known when the run starts
        if self.search == "grid":
            return {key: values[index // stays % size] for key, values, stays, size in self._digits}
        # A hash and not a generator's stream: no state to carry, 1 µs, and the same bits on every machine.
        mark = b"%d:%d:" % (self.seed, index)
        return {
            key: sample(_first_8(sha256(mark + name).digest())[0] >> (64 - _BITS))
            for key, name, sample in self._samplers
        }


def define_sweep(config: SweepConfig, *, source: str) -> SweepDefinition:
    """Return the expansion of a sweep config; whether its points fit a run config is for `load_sweep`.

    Raises:
        ConfigError: the grid is too large.
    """
    axes = tuple(config.axes.items())
    count = config.trials or 0
    if config.search == "grid":
        count = math.prod(len(axis.listed) for _, axis in axes)
        if count > MAX_POINTS:
            raise ConfigError(f"{source}: axes: the grid has {count} points; allowed: at most {MAX_POINTS}")
    return SweepDefinition(
        config.search,
        axes,
        count=count,
        seed=config.seed,
        _digits=_digits(axes) if config.search == "grid" else (),
        _samplers=tuple((key, key.encode(), _sampler(axis)) for key, axis in axes),
    )


def load_sweep(path: Path, overrides: Sequence[Override] = ()) -> tuple[SweepConfig, RunConfig, SweepDefinition]:
    """Return the sweep in a file, the run config it varies, and its expansion.

    An override whose first word is a key of the sweep file (`trials=4`) changes the sweep, any other the base config.

    Raises:
        NotFound: the file or its base does not exist.
        ConfigError: wrong keys or values, of the file, of its base, and of every axis; one line each.
    """
    document = read_yaml(path)
    if isinstance(document.data, dict) and "axes" not in document.data and document.data.keys() & _ONLY_IN_RUNS:
        raise ConfigError(f"{path}: found a run config; allowed: a sweep, with axes", hint=f"nexa launch {path}")
    mine, base_overrides = _split_overrides(overrides)
    if isinstance(document.data, dict) and document.data.get("base") is None:
        mine += [replace(item, key=f"run.{item.key}") for item in base_overrides]
        base_overrides = []
    problems: list[str] = []
    config = _note_problems(problems, lambda: parse_config(document, SweepConfig, overrides=mine))
    parts = _split_config(config) if config is not None else _read_parts(document, mine)
    base = parts.run
    if parts.base is not None:
        base_file = path.parent / parts.base
        base = _note_problems(problems, lambda: load_config(base_file, RunConfig, overrides=base_overrides))
    definition = None
    if config is not None:
        definition = _note_problems(problems, lambda: define_sweep(config, source=str(path)))
    contexts = None if definition is None else _spread(definition)
    problems += find_axis_problems(parts.axes, base, document=document, contexts=contexts)
    if config is not None and config.is_adaptive:
        problems += find_late_axes(parts.axes, document=document)
    if config is None or base is None or definition is None or problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    return config, base, definition


def _digits(axes: Sequence[tuple[str, Axis]]) -> tuple[tuple[str, Sequence[Scalar], int, int], ...]:
    digits: list[tuple[str, Sequence[Scalar], int, int]] = []
    stays = 1
    for key, axis in reversed(axes):
        values = axis.listed
        digits.append((key, values, stays, len(values)))
        stays *= len(values)
    return tuple(reversed(digits))


def _sampler(axis: Axis) -> Callable[[int], Scalar]:
    """Return what turns 53 random bits into a value of the axis."""
    if axis.uniform is not None:
        low, high = axis.uniform
        width = high - low
        return lambda bits: _readable(low + width * (bits * _UNIT), low, high)
    if axis.log_uniform is not None:
        low, high = axis.log_uniform
        ratio = math.log(high / low)
        return lambda bits: _readable(low * math.exp(ratio * (bits * _UNIT)), low, high)
    listed = axis.listed
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


def _note_problems(problems: list[str], read: Callable[[], ResultT]) -> ResultT | None:
    try:
        return read()
    except (ConfigError, NotFound) as error:
        if not problems and isinstance(error, UnsupportedSchema | NotFound):
            raise  # alone it keeps its class and its hint
        problems.extend(error.message.splitlines())
        return None


@dataclass(frozen=True, slots=True)
class _Parts:
    """Of a sweep file, what its axes are judged by."""

    axes: dict[str, Axis]
    base: str | None
    run: RunConfig | None


def _split_config(config: SweepConfig) -> _Parts:
    run = config.run
    if run is not None and "name" not in run.model_fields_set:
        run = run.model_copy(update={"name": config.name})
    return _Parts(axes=config.axes, base=config.base, run=run)


def _read_parts(document: Document, overrides: Sequence[Override]) -> _Parts:
    """Return what can be read of a file that has errors, so that they are all told at once."""
    data: dict[str, Any] = json.loads(json.dumps(document.data)) if isinstance(document.data, dict) else {}
    for override in overrides:
        set_key(data, override.key.split("."), override.value)
    listed = data.get("axes")
    axes = {key: _find_part(Axis, part) for key, part in (listed if isinstance(listed, dict) else {}).items()}
    base, run = data.get("base"), data.get("run")
    return _Parts(
        axes={key: axis for key, axis in axes.items() if axis is not None},
        base=base if isinstance(base, str) and run is None else None,
        run=_find_part(RunConfig, run) if base is None else None,
    )


def _find_part(schema: type[PartT], data: Any) -> PartT | None:
    try:
        return schema.model_validate_json(json.dumps(data))
    except ValidationError:
        return None


def _spread(definition: SweepDefinition) -> list[Point]:
    if definition.search == "tpe":
        definition = replace(definition, search="random")  # it may come to any of these
    count = min(_CONTEXTS, len(definition))
    return [definition.point(step * len(definition) // count) for step in range(count)]
