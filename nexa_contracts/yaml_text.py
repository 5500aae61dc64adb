"""YAML as data, safely: bounded, without aliases, duplicate keys refused, every value with the line it stands on.

YAML 1.2 through ruamel.yaml, because YAML 1.1 readers turn `no` into False, `1:30` into 90 and leave `1e-4` a text.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from nexa_contracts.errors import ConfigError, NotFound

MAX_BYTES = 256 * 1024
"""Largest config file read. A config is written by a person; data belongs into a dataset."""
MAX_DEPTH = 30
_TEXT_TAG = "tag:yaml.org,2002:str"
_PLAIN_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool", "null", "str"))

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file: its plain data, and the line (from 1) of every key path."""

    source: str
    data: Any
    lines: dict[KeyPath, int]


def read_yaml(path: Path) -> Document:
    """Return the one document in a YAML file.

    Raises:
        NotFound: there is no such file.
        ConfigError: too large, not UTF-8, not YAML, with aliases, with duplicate keys, or nested too deep.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such file") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES // 1024} KiB, the most a config may be")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from error
    return parse_yaml(text, source=str(path))


def parse_yaml(text: str, *, source: str) -> Document:
    """Return the document in a text; `source` names it in errors.

    Raises:
        ConfigError: as `read_yaml`.
    """
    try:
        _check_events(text, source)
        node = _reader().compose(io.StringIO(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}" if mark is not None else source
        raise ConfigError(f"{where}: not valid YAML: {error.problem or error.context}") from error
    except (YAMLError, ValueError) as error:
        raise ConfigError(f"{source}: not valid YAML: {str(error).splitlines()[0]}") from error
    lines: dict[KeyPath, int] = {}
    problems: list[str] = []
    data = None if node is None else _build(node, (), lines, problems, source)
    if problems:
        raise ConfigError("\n".join(problems))
    return Document(source=source, data=data, lines=lines)


def _reader() -> YAML:
    return YAML(typ="safe", pure=True)


def _check_events(text: str, source: str) -> None:
    # Events come from a state machine, so depth is checked before anything recurses over the tree.
    depth = documents = 0
    for event in _reader().parse(io.StringIO(text)):
        kind = type(event).__name__
        line = event.start_mark.line + 1
        if kind == "AliasEvent" or getattr(event, "anchor", None):
            raise ConfigError(f"{source}:{line}: anchors and aliases are not allowed; write the value out")
        if kind in ("MappingStartEvent", "SequenceStartEvent"):
            depth += 1
            if depth > MAX_DEPTH:
                raise ConfigError(f"{source}:{line}: nested deeper than {MAX_DEPTH} levels")
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            depth -= 1
        elif kind == "DocumentStartEvent":
            documents += 1
            if documents > 1:
                raise ConfigError(f"{source}:{line}: more than one YAML document in the file; allowed: one")


def _build(node: Node, path: KeyPath, lines: dict[KeyPath, int], problems: list[str], source: str) -> Any:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, MappingNode):
        return _build_mapping(node, path, lines, problems, source)
    if isinstance(node, SequenceNode):
        return [_build(item, (*path, index), lines, problems, source) for index, item in enumerate(node.value)]
    return _build_scalar(node, problems, source)


def _build_mapping(
    node: MappingNode, path: KeyPath, lines: dict[KeyPath, int], problems: list[str], source: str
) -> dict[str, Any]:
    built: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, ScalarNode):
            problems.append(f"{source}:{line}: a key must be a plain word")
            continue
        key = str(key_node.value)
        if key in built:
            first = lines[(*path, key)]
            dotted = ".".join(str(part) for part in (*path, key))
            problems.append(f"{source}:{line}: {dotted}: the key stands twice (first on line {first}); keep one")
            continue
        lines[(*path, key)] = line
        built[key] = _build(value_node, (*path, key), lines, problems, source)
    return built


def _build_scalar(node: Node, problems: list[str], source: str) -> Any:
    if node.tag not in _PLAIN_TAGS:
        explicit = "timestamp" not in str(node.tag)
        if explicit:
            problems.append(f"{source}:{node.start_mark.line + 1}: the tag {node.tag} is not allowed")
        return str(node.value)  # a date stays the text that was written
    if node.tag == _TEXT_TAG:
        return str(node.value)
    constructor = SafeConstructor(loader=_reader())
    try:
        return constructor.construct_object(node)
    except (ValueError, OverflowError) as error:
        problems.append(f"{source}:{node.start_mark.line + 1}: {node.value!r} is not a value: {error}")
        return None
