"""What a wrong value of a config is told: what was found, what is allowed, the nearest right name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from pydantic_core import ErrorDetails

from nexa_contracts.yaml_text import MAX_SHOWN

KINDS = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "tuple_type": "a list",
    "list_type": "a list",
    "finite_number": "a finite number",
    "string_unicode": "Unicode text",
}
"""What is allowed where the kind of the value is wrong, by the type of pydantic's error."""
_BOUNDS = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "too_short": "a list or mapping of {min_length} or more",
    "string_too_short": "a text of {min_length} or more characters",
    "string_too_long": "a text of at most {max_length} characters",
}


def explain(details: Sequence[ErrorDetails], *, rule: str | None) -> str:
    """Return what is wrong with one value; `details` holds an error for each branch of a union, else one.

    `rule` says what a text there must look like, where the schema knows more than that it is one.
    """
    first = details[0]
    if first["type"] == "missing":
        return "missing; this key is required"
    found = describe(first["input"])
    if first["type"] == "value_error":
        text = str(first.get("ctx", {}).get("error", first["msg"]))
        return text if text.startswith("found") or not _is_plain(first["input"]) else f"found {found}; {text}"
    allowed = list(dict.fromkeys(_allowed(detail) for detail in details))
    if allowed == ["a text"] and rule:
        allowed.append(rule)
    return f"found {found}; allowed: {', '.join(allowed)}{_nearest(first['input'], allowed)}"


def explain_unknown_key(name: str, allowed: Sequence[str], *, elsewhere: Sequence[str] = ()) -> str:
    """Return that a key is unknown, with the nearest right one and all right ones.

    `elsewhere` are dotted keys of that very name in other places.
    """
    if elsewhere:
        return f"unknown key; did you mean {' or '.join(elsewhere)}? allowed: {', '.join(allowed)}"
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.6)
    if close:
        return f"unknown key; did you mean {close[0]}? allowed: {', '.join(allowed)}"
    return f"unknown key; allowed: {', '.join(allowed) or 'nothing here'}"


def describe(value: Any) -> str:
    """Return a found value as an error shows it: on one line, and short."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)[:80]
    if isinstance(value, str):
        return repr(value if len(value) <= MAX_SHOWN else value[: MAX_SHOWN - 3] + "...")
    return f"{'a' if value else 'an empty'} {'list' if isinstance(value, list | tuple) else 'mapping'}"


def _allowed(detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in KINDS:
        return KINDS[kind]
    if kind in _BOUNDS:
        # 0.0 of a float field reads 0, the way it was written
        return _BOUNDS[kind].format(
            **{k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in context.items()}
        )
    if kind in ("literal_error", "enum"):
        return str(context.get("expected", "")).replace("'", "")
    return _lower(detail["msg"]).removeprefix("input should be ")


def _nearest(found: Any, allowed: Sequence[str]) -> str:
    names = ", ".join(allowed).replace(" or ", ", ").split(", ")
    close = difflib.get_close_matches(str(found), names, n=1, cutoff=0.6) if isinstance(found, str) else []
    return f"; did you mean {close[0]}?" if close else ""


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
