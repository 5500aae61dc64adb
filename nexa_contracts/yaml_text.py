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
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from nexa_contracts.errors import ConfigError, NotFound

MAX_BYTES = 256 * 1024
"""Largest config file read. A config is written by a person; data belongs into a dataset."""
MAX_DEPTH = 30
MAX_SHOWN = 60
"""Most characters of a found value that an error shows."""
_LARGEST_BITS = 1024
"""Of a whole number; a longer one is a text that lost its quotes."""
_YAML_VERSION = (1, 2)
_TAG = "tag:yaml.org,2002:"
_VALUE_TAGS = frozenset(_TAG + kind for kind in ("int", "float", "bool", "null"))
_TEXT_TAGS = frozenset(_TAG + kind for kind in ("str", "timestamp", "value", "merge"))
"""Plain words that stay the text that was written: a date is one, and so are a bare `=` and `<<`."""
_COLLECTION_TAGS = frozenset(_TAG + kind for kind in ("map", "seq"))

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
    builder = _Builder(source)
    data = None if node is None else builder.build(node, ())
    if builder.problems:
        raise ConfigError("\n".join(builder.problems))
    return Document(source=source, data=data, lines=builder.lines)


def dotted(path: KeyPath) -> str:
    """Return a key path as people write it; a key that cannot be printed is shown quoted, so it stays on one line."""
    return ".".join(str(part) if str(part).isprintable() else repr(part) for part in path)


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
            if (event.version or _YAML_VERSION) != _YAML_VERSION:
                # YAML 1.1 would bring back `no` for False; a file cannot ask for it.
                raise ConfigError(f"{source}:{line}: found %YAML {event.version[0]}.{event.version[1]}; allowed: 1.2")
            documents += 1
            if documents > 1:
                raise ConfigError(f"{source}:{line}: more than one YAML document in the file; allowed: one")


class _Builder:
    """Turns nodes into plain data, and keeps the line of every key path and every problem on the way."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[str] = []
        self._constructor = SafeConstructor(loader=_reader())

    def build(self, node: Node, path: KeyPath) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, ScalarNode):
            return self._scalar(node)
        if node.tag not in _COLLECTION_TAGS:
            self._report(node, f"the tag {node.tag} is not allowed")
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]

    def _mapping(self, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self._report(key_node, "a key must be a plain word")
                continue
            key = self._text(key_node)
            key_path = (*path, key)
            if key in built:
                first = self.lines[key_path]
                self._report(key_node, f"{dotted(key_path)}: the key stands twice (first on line {first}); keep one")
                continue
            self.lines[key_path] = key_node.start_mark.line + 1
            built[key] = self.build(value_node, key_path)
        return built

    def _scalar(self, node: ScalarNode) -> Any:
        if node.tag in _TEXT_TAGS:
            return self._text(node)
        if node.tag not in _VALUE_TAGS:
            self._report(node, f"the tag {node.tag} is not allowed")
            return None
        try:
            value = self._constructor.construct_object(node)
            if isinstance(value, int) and value.bit_length() > _LARGEST_BITS:
                raise OverflowError  # noqa: TRY301 - Python itself refuses to write it out again
            return value
        except (ValueError, OverflowError, LookupError):
            # LookupError: ruamel's answer to `!!bool maybe` and `!!int ""`.
            shown = node.value if len(node.value) <= MAX_SHOWN else node.value[: MAX_SHOWN - 3] + "..."
            self._report(node, f"{shown!r} is not {_kind(node)}")
            return None

    def _text(self, node: ScalarNode) -> str:
        text = str(node.value)
        try:
            # JSON writes a rare character as two escapes, which YAML leaves apart.
            return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self._report(node, f"{text[:MAX_SHOWN]!r} is not Unicode text")
            return ""

    def _report(self, node: Node, problem: str) -> None:
        self.problems.append(f"{self.source}:{node.start_mark.line + 1}: {problem}")


def _kind(node: ScalarNode) -> str:
    kind = str(node.tag).removeprefix(_TAG)
    if kind == "int":
        return "a whole number that can be read"
    return {"float": "a number", "bool": "true or false"}.get(kind, "a value")
