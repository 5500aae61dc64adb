"""Config files: loaded, overridden, judged against their schema, with every error of a file at once.

An error is one line a key: file and line, dotted key, what was found, what is allowed, the nearest right name.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from nexa_contracts.base import Contract, Scalar
from nexa_contracts.errors import ConfigError
from nexa_contracts.yaml_text import Document, KeyPath, parse_yaml, read_yaml

ContractT = TypeVar("ContractT", bound=Contract)

_KINDS = {
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
}


@dataclass(frozen=True, slots=True)
class Override:
    """One `--set key=value`: the dotted key, the parsed value and the text it was parsed from."""

    key: str
    value: Any
    text: str


def parse_override(text: str) -> Override:
    """Return what `training.learning_rate=3e-4` sets; the value is read as YAML.

    Raises:
        ConfigError: there is no `=`, the key is empty, or the value is not YAML.
    """
    key, separator, value = text.partition("=")
    if not separator or not all(key.split(".")):
        raise ConfigError(f"--set {text}: found no key=value; allowed: --set training.learning_rate=3e-4")
    return Override(key=key, value=parse_yaml(value, source=f"--set {key}").data, text=value)


def load_config(path: Path, schema: type[ContractT], *, overrides: Sequence[Override] = ()) -> ContractT:
    """Return the config in a YAML file, with overrides applied.

    Raises:
        NotFound: no such file.
        ConfigError: one line for each wrong key.
    """
    document = read_yaml(path)
    if document.data is None:
        raise ConfigError(f"{path}: the file is empty; allowed: the keys {_list_names(schema)}")
    return parse_config(document, schema, overrides=overrides)


def parse_config(document: Document, schema: type[ContractT], *, overrides: Sequence[Override] = ()) -> ContractT:
    """Return the config in a parsed document, with overrides applied.

    Raises:
        ConfigError: one line for each wrong key.
    """
    if not isinstance(document.data, dict):
        found = _describe(document.data)
        raise ConfigError(f"{document.source}:1: found {found}; allowed: a mapping with the keys {_list_names(schema)}")
    data = json.loads(json.dumps(document.data))
    texts: dict[KeyPath, Override] = {}
    for override in overrides:
        path = tuple(override.key.split("."))
        set_key(data, path, override.value)
        texts[path] = override
    return _validate(data, schema, document, texts)


def apply_point(config: ContractT, point: Mapping[str, Scalar], *, source: str) -> ContractT:
    """Return a copy of a config with the values of a sweep point set.

    Raises:
        ConfigError: one line for each key or value that does not fit the schema.
    """
    document = Document(source=source, data=config.model_dump(mode="json"), lines={})
    overrides = [Override(key=key, value=value, text=str(value)) for key, value in point.items()]
    return parse_config(document, type(config), overrides=overrides)


def set_key(data: dict[str, Any], path: Sequence[str | int], value: Any) -> None:
    """Set a value at a key path in nested mappings, making the mappings on the way."""
    for part in path[:-1]:
        child = data.get(str(part))
        if not isinstance(child, dict):
            child = {}
            data[str(part)] = child
        data = child
    data[str(path[-1])] = value


def _validate(
    data: dict[str, Any], schema: type[ContractT], document: Document, texts: Mapping[KeyPath, Override]
) -> ContractT:
    # Strict JSON mode: a quoted number is a text, a list is a tuple, and nothing is guessed.
    for _ in range(2):
        try:
            return schema.model_validate_json(json.dumps(data))
        except ValidationError as error:
            details = error.errors(include_url=False)
            if not _read_as_text(data, details, texts):
                break
    lines = [_explain(detail, schema, document, texts) for detail in details]
    raise ConfigError("\n".join(dict.fromkeys(lines)))


def _read_as_text(data: dict[str, Any], details: list[ErrorDetails], texts: Mapping[KeyPath, Override]) -> bool:
    # `--set name=123` means the text "123" where the schema wants a text.
    changed = False
    for detail in details:
        override = texts.get(tuple(detail["loc"]))
        if detail["type"] == "string_type" and override is not None:
            set_key(data, detail["loc"], override.text)
            changed = True
    return changed


def _explain(
    detail: ErrorDetails, schema: type[BaseModel], document: Document, texts: Mapping[KeyPath, Override]
) -> str:
    path = _without_branch_tags(detail["loc"])
    parts = [_place(path, document, texts)]
    if path:
        parts.append(".".join(str(part) for part in path))
    parts.append(_reason(detail, schema))
    return ": ".join(parts)


def _reason(detail: ErrorDetails, schema: type[BaseModel]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    found = _describe(detail["input"])
    if kind == "extra_forbidden":
        return _unknown_key(str(detail["loc"][-1]), _names_at(schema, detail["loc"][:-1]))
    if kind == "missing":
        return "missing; this key is required"
    if kind in _KINDS:
        return f"found {found}; allowed: {_KINDS[kind]}"
    if kind in ("literal_error", "enum"):
        allowed = str(context.get("expected", "")).replace("'", "")
        return f"found {found}; allowed: {allowed}{_nearest(str(detail['input']), allowed.replace(' or ', ', '))}"
    if kind == "value_error":
        text = str(context.get("error", detail["msg"]))
        return text if text.startswith("found") or not _is_plain(detail["input"]) else f"found {found}; {text}"
    return f"found {found}; allowed: {_lower(detail['msg']).removeprefix('input should be ')}"


def _unknown_key(name: str, allowed: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.6)
    if close:
        return f"unknown key; did you mean {close[0]}? allowed: {', '.join(allowed)}"
    return f"unknown key; allowed: {', '.join(allowed) or 'nothing here'}"


def _nearest(found: str, allowed: str) -> str:
    close = difflib.get_close_matches(found, allowed.split(", "), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _place(path: KeyPath, document: Document, texts: Mapping[KeyPath, Override]) -> str:
    for end in range(len(path), 0, -1):
        if path[:end] in texts:
            return f"--set {texts[path[:end]].key}={texts[path[:end]].text}"
    for end in range(len(path), -1, -1):
        if path[:end] in document.lines:
            return f"{document.source}:{document.lines[path[:end]]}"
    return document.source


def find_model(schema: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel] | None:
    """Return the model whose fields may stand at a key path; None where the path leads to plain data."""
    model: type[BaseModel] | None = schema
    for part in _without_branch_tags(path):
        if model is None:
            return None
        field = model.model_fields.get(str(part))
        model = None if field is None else _model_in(field.annotation)
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _model_in(argument)
        if found is not None:
            return found
    return None


def _names_at(schema: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    fields: dict[str, Any] = {}
    model = find_model(schema, path)
    if model is None and path:
        owner = find_model(schema, path[:-1])
        model = owner if owner is None else _model_in(owner.model_fields.get(str(path[-1])))
    if model is not None:
        fields = dict(model.model_fields)
    return [name for name in fields if name != "schema_version"]


def _list_names(schema: type[BaseModel]) -> str:
    return ", ".join(_names_at(schema, ()))


def _without_branch_tags(path: Sequence[str | int]) -> KeyPath:
    # pydantic puts the name of a union's branch into the location: `literal['all-linear']`, and last, `bool`.
    kept = [part for part in path if not (isinstance(part, str) and "[" in part)]
    if kept and kept[-1] in ("str", "int", "float", "bool"):
        kept.pop()
    return tuple(kept)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _describe(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)[:80]
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:57] + "...")
    return "a list" if isinstance(value, list | tuple) else "a mapping"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
