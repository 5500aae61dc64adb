"""Filters over runs as people type them (`state=FAILED`, `eval_loss<2.5`, `tag.team=x`), turned into SQL.

Every value, and every key that a person chose, is a bound parameter; the SQL text consists of the fixed pieces below.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from nexa_contracts.errors import ConfigError
from nexa_contracts.states import FINAL_STATES, JobState

Kind = Literal["text", "number", "time", "state"]

FIELDS: dict[str, tuple[str, Kind]] = {
    "run": ("run_id", "text"),
    "sweep": ("json_extract(asked, '$.sweep_id')", "text"),
    "index": ("json_extract(asked, '$.index')", "number"),
    "name": ("json_extract(asked, '$.name')", "text"),
    "state": ("json_extract(ended, '$.state')", "state"),
    "created": ("json_extract(asked, '$.created_s')", "time"),
    "ended": ("json_extract(ended, '$.ended_s')", "time"),
    "seconds": ("json_extract(ended, '$.seconds')", "number"),
    "attempts": ("json_extract(ended, '$.attempts')", "number"),
    "backend": ("json_extract(asked, '$.backend')", "text"),
    "gpu": ("json_extract(asked, '$.gpu_type')", "text"),
    "gpus": ("json_extract(asked, '$.gpus')", "number"),
    "steps": ("json_extract(ended, '$.steps')", "number"),
    "tokens": ("json_extract(ended, '$.tokens')", "number"),
    "loss": ("json_extract(ended, '$.metrics.loss')", "number"),
    "eval_loss": ("json_extract(ended, '$.metrics.eval_loss')", "number"),
    "cost": ("json_extract(costed, '$.total_usd')", "number"),
    "estimate": ("json_extract(asked, '$.estimate_usd')", "number"),
    "resumes": ("json_extract(asked, '$.resumes')", "text"),
    "failure": ("json_extract(ended, '$.failure')", "text"),
}
"""By the name a person uses: the SQL expression, and what its values are."""
_FLAT = {"tag": ("asked", "tags"), "metrics": ("ended", "metrics")}
_NESTED = "config"
PREFIXES = ("tag.", "point.", "metrics.", "config.")
OPERATORS = ("=", "!=", "~", "<", "<=", ">", ">=")
NONE = "none"
"""The value that stands for unknown or not yet: `state=none` is every run without an outcome."""
_SHAPE = re.compile(r"\s*(?P<field>[A-Za-z_][\w.-]*)\s*(?P<operator>!=|<=|>=|=|~|<|>)\s*(?P<value>.*?)\s*", re.DOTALL)
_KEY = re.compile(r"[\w-]+(?:\.[\w-]+)*")

Value = str | float


@dataclass(frozen=True, slots=True)
class Condition:
    """One filter: a field of FIELDS, or one under PREFIXES; one of OPERATORS; the value as typed."""

    field: str
    operator: str
    value: str


def parse_where(text: str) -> Condition:
    """Return the filter in a text such as `eval_loss<2.5`.

    Raises:
        ConfigError: no such field or operator, or a value that the field cannot have.
    """
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"where: found {text!r}; allowed: FIELD OPERATOR VALUE with one of {' '.join(OPERATORS)}, "
            "such as state=FAILED or eval_loss<2.5"
        )
    condition = Condition(field=match["field"], operator=match["operator"], value=match["value"])
    render_condition(condition)
    return condition


def render_condition(condition: Condition) -> tuple[str, list[Value]]:
    """Return the SQL expression of a filter and its parameters.

    Raises:
        ConfigError: as `parse_where`.
    """
    expression, keys, kind = _find_field(condition.field)
    operator, text = condition.operator, condition.value
    if operator not in OPERATORS:
        raise _refuse(condition, f"operator {operator!r}", " ".join(OPERATORS))
    if text.lower() == NONE:
        if operator not in ("=", "!="):
            raise _refuse(condition, f"{operator} {NONE}", f"= {NONE} and != {NONE}")
        return f"{expression} IS {'NOT ' if operator == '!=' else ''}NULL", keys
    if operator == "~":
        if kind in ("number", "time"):
            raise _refuse(condition, "the operator ~", "= != < <= > >=, because its values are no texts")
        # instr has no wildcards, so % and _ mean themselves.
        return f"instr(lower({expression}), lower(?)) > 0", [*keys, text]
    values = _values(condition, kind)
    if len(values) == 2:
        if operator == "!=":
            return f"({expression} IS NULL OR {expression} NOT IN (?, ?))", [*keys, *keys, *values]
        return f"{expression} IN (?, ?)", [*keys, *values]
    if operator == "!=":
        return f"{expression} IS NOT ?", [*keys, *values]  # what is unknown differs from every value
    return f"{expression} {operator} ?", [*keys, *values]


def render_order(sort: str | None) -> tuple[str, list[Value]]:
    """Return the ORDER BY of a field, descending with a leading `-`, unknown last; None is newest first.

    Raises:
        ConfigError: no such field.
    """
    if sort is None:
        return "run_id DESC", []
    expression, keys, _ = _find_field(sort.removeprefix("-"), asked_by="--sort")
    direction = "DESC" if sort.startswith("-") else "ASC"
    return f"{expression} {direction} NULLS LAST, run_id", keys


def _find_field(name: str, *, asked_by: str = "where") -> tuple[str, list[Value], Kind | Literal["json"]]:
    if name in FIELDS:
        expression, kind = FIELDS[name]
        return expression, [], kind
    prefix, _, key = name.partition(".")
    if prefix == "point" and _KEY.fullmatch(key):
        # Of a trial the outcome has it, because a manifest never changes.
        path = f'$.point."{key}"'
        return "coalesce(json_extract(asked, ?), json_extract(ended, ?))", [path, path], "json"
    if prefix in _FLAT and _KEY.fullmatch(key):
        # The keys of tags, points and metrics are flat, dots included.
        column, part = _FLAT[prefix]
        return f"json_extract({column}, ?)", [f'$.{part}."{key}"'], "text" if prefix == "tag" else "json"
    if prefix == _NESTED and _KEY.fullmatch(key):
        path = "$" + "".join(f'."{part}"' for part in key.split("."))
        return "(SELECT json_extract(config, ?) FROM configs WHERE configs.run_id = runs.run_id)", [path], "json"
    close = difflib.get_close_matches(name, [*FIELDS, *PREFIXES], n=1, cutoff=0.6)
    nearest = f" did you mean {close[0]}?" if close else ""
    raise ConfigError(
        f"{asked_by}: unknown field {name};{nearest} allowed: {', '.join([*FIELDS, *(p + 'KEY' for p in PREFIXES)])}"
    )


def _values(condition: Condition, kind: Kind | Literal["json"]) -> Sequence[Value]:
    text = condition.value
    if kind == "text":
        return (text,)
    if kind == "state":
        return (_parse_state(condition),)
    if kind == "time":
        return (_parse_time(condition),)
    number = _parse_number(text)
    if kind == "number":
        if number is None:
            raise _refuse(condition, repr(text), f"a number, or {NONE}")
        return (number,)
    if number is None:
        # SQLite gives the JSON values true and false as 1 and 0.
        return ({"true": 1.0, "false": 0.0}.get(text.lower(), text),)
    # A JSON value that reads as a number may have been written as a text.
    return (number, text) if condition.operator in ("=", "!=") else (number,)


def _parse_state(condition: Condition) -> str:
    state = condition.value.upper()
    if state not in JobState.__members__ or JobState(state) not in FINAL_STATES:
        allowed = ", ".join(state for state in JobState if state in FINAL_STATES)
        raise _refuse(condition, repr(condition.value), f"{allowed}, or {NONE} for runs that have not ended")
    return state


def _parse_time(condition: Condition) -> float:
    try:
        moment = datetime.fromisoformat(condition.value)
    except ValueError as error:
        raise _refuse(
            condition, repr(condition.value), "a time in UTC such as 2026-11-01 or 2026-11-01T12:30"
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _parse_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _refuse(condition: Condition, found: str, allowed: str) -> ConfigError:
    return ConfigError(f"where: {condition.field}: found {found}; allowed: {allowed}")
