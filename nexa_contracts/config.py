"""Config files: loaded, overridden, judged against their schema, with every error of a file at once.

An error is one line a key: file and line, dotted key, what was found, what is allowed, the nearest right name.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from nexa_contracts.base import Contract, Scalar
from nexa_contracts.errors import ConfigError
from nexa_contracts.wording import KINDS, describe, explain, explain_unknown_key
from nexa_contracts.yaml_text import Document, KeyPath, dotted, parse_yaml, read_yaml

ContractT = TypeVar("ContractT", bound=Contract)


@dataclass(frozen=True, slots=True)
class Override:
    """One `--set key=value`: the dotted key, the parsed value and the text it was parsed from."""

    key: str
    value: Any
    text: str
    option: str | None = None
    """The option of a command that stands for the key; None: it was given as `--set`."""

    @property
    def typed(self) -> str:
        """Itself as a person typed it."""
        return f"--set {self.key}={self.text}" if self.option is None else f"{self.option} {self.text}"


def parse_override(text: str, *, option: str | None = None) -> Override:
    """Return what `training.learning_rate=3e-4` sets; the value is read as YAML.

    `option` is what was typed in the place of `--set` and the key.

    Raises:
        ConfigError: there is no `=`, the key is empty, or the value is not YAML.
    """
    key, separator, value = text.partition("=")
    if not separator or not all(key.split(".")):
        raise ConfigError(f"--set {text}: found no key=value; allowed: --set training.learning_rate=3e-4")
    parsed = parse_yaml(value, source=option or f"--set {key}").data
    if isinstance(parsed, str) and not value.lstrip().startswith(("'", '"', "!", "|", ">")):
        parsed = value.strip()  # a plain text is all of it: YAML would end it at the # of `a #5`
    return Override(key=key, value=parsed, text=value, option=option)


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
        UnsupportedSchema: it was written for a newer version.
    """
    if not isinstance(document.data, dict):
        found = describe(document.data)
        raise ConfigError(f"{document.source}:1: found {found}; allowed: a mapping with the keys {_list_names(schema)}")
    schema.check_version(document.data, source=document.source)
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


def find_model(schema: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel] | None:
    """Return the model whose fields may stand at a key path; None where the path leads to plain data."""
    annotation: Any = schema
    for part in path:
        annotation = _annotation_below(annotation, part)
    return _model_of(annotation)


def _validate(
    data: dict[str, Any], schema: type[ContractT], document: Document, texts: Mapping[KeyPath, Override]
) -> ContractT:
    # Strict JSON mode: a quoted number is a text, a list is a tuple, and nothing is guessed.
    for _ in range(2):
        try:
            return schema.model_validate_json(json.dumps(data))
        except ValidationError as error:
            found = _by_path(error.errors(include_url=False), data)
            if not _read_as_text(data, found, texts):
                break
    places = {path: _place(path, details, document, texts) for path, details in found.items()}
    lines = [
        ": ".join([places[path][1], *([dotted(path)] if path else []), _reason(path, found[path], schema)])
        for path in sorted(found, key=lambda path: places[path][0])
    ]
    raise ConfigError("\n".join(lines))


def _by_path(details: Sequence[ErrorDetails], data: Any) -> dict[KeyPath, list[ErrorDetails]]:
    # A union fails once for each of its branches, and those are one wrong value, so one line.
    found: dict[KeyPath, list[ErrorDetails]] = {}
    for detail in details:
        found.setdefault(_path_in_data(detail, data), []).append(detail)
    # What fails above another failure is a union's other branch, or a list found empty once its items had failed.
    return {
        path: kept
        for path, kept in found.items()
        if not any(len(other) > len(path) and other[: len(path)] == path and path for other in found)
    }


def _path_in_data(detail: ErrorDetails, data: Any) -> KeyPath:
    # pydantic puts the name of a union's branch into the location; what the data does not hold is such a name.
    path: list[str | int] = []
    for position, part in enumerate(detail["loc"]):
        is_item = isinstance(data, list) and isinstance(part, int) and part < len(data)
        if is_item or (isinstance(data, dict) and part in data):
            data = data[part]
            path.append(part)
        elif detail["type"] == "missing" and position == len(detail["loc"]) - 1:
            path.append(part)
    return tuple(path)


def _read_as_text(
    data: dict[str, Any], found: Mapping[KeyPath, Sequence[ErrorDetails]], texts: Mapping[KeyPath, Override]
) -> bool:
    # `--set name=123` means the text "123" where the schema wants a text.
    wanted = [path for path, details in found.items() if path in texts and details[0]["type"] == "string_type"]
    for path in wanted:
        set_key(data, path, texts[path].text)
    return bool(wanted)


def _place(
    path: KeyPath, details: Sequence[ErrorDetails], document: Document, texts: Mapping[KeyPath, Override]
) -> tuple[int, str]:
    # The line to sort by (overrides come last), and the place as a person looks for it.
    overrides = [texts[path[:end]] for end in range(len(path), 0, -1) if path[:end] in texts]
    if details[0]["type"] in (*KINDS, "extra_forbidden"):
        # `--set name.x=1` made a mapping of what the file holds.
        overrides += [override for key, override in texts.items() if key[: len(path)] == path]
    if overrides:
        return sys.maxsize, overrides[0].typed
    for end in range(len(path), -1, -1):
        if path[:end] in document.lines:
            return document.lines[path[:end]], f"{document.source}:{document.lines[path[:end]]}"
    return 0, document.source


def _reason(path: KeyPath, details: Sequence[ErrorDetails], schema: type[BaseModel]) -> str:
    if details[0]["type"] == "extra_forbidden":
        name = str(path[-1])
        elsewhere = _find_elsewhere(find_model(schema, path[:-1]), name) or _find_elsewhere(schema, name)
        return explain_unknown_key(name, _names_at(schema, path[:-1]), elsewhere=elsewhere)
    return explain(details, rule=_rule_of(schema, path))


def _rule_of(schema: type[BaseModel], path: KeyPath) -> str | None:
    # What a Name, a Duration or a Size looks like: `walltime: 90` lacks its unit, not its quotes.
    owner = find_model(schema, path[:-1]) if path else None
    field = owner.model_fields.get(str(path[-1])) if owner is not None else None
    return None if field is None else field.description


def _annotation_below(annotation: Any, part: str | int) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(part))
        return None if field is None else field.annotation
    arguments = get_args(annotation)
    if get_origin(annotation) is dict:
        return arguments[1]
    if get_origin(annotation) in (tuple, list):
        return arguments[0]
    below = (_annotation_below(argument, part) for argument in arguments)
    return next((found for found in below if found is not None), None)


def _model_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (dict, tuple, list):
        return None
    return next((model for model in map(_model_of, get_args(annotation)) if model is not None), None)


def _names_at(schema: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    model = find_model(schema, path)
    return [] if model is None else [name for name in model.model_fields if name != "schema_version"]


def _find_elsewhere(model: type[BaseModel] | None, name: str) -> list[str]:
    """Return the dotted keys below a model whose last part is this one."""
    if model is None:
        return []
    found: list[str] = []
    for key, field in model.model_fields.items():
        below = _model_of(field.annotation)
        names = () if below is None else ([name] if name in below.model_fields else _find_elsewhere(below, name))
        found += [f"{key}.{inner}" for inner in names]
    return found


def _list_names(schema: type[BaseModel]) -> str:
    return ", ".join(_names_at(schema, ()))
