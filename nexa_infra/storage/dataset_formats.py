"""What is in a dataset's files: rows and columns of JSONL and Parquet, with the first wrong line named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from nexa_contracts.errors import ConfigError, MissingExtra

MAX_LINE_BYTES = 256 * 1024 * 1024
"""Longest line of a JSONL file; a longer one is a file without line ends rather than a row."""
_JSON_TYPES = {bool: "bool", int: "int", float: "float", str: "string", list: "list", dict: "object"}


@dataclass(frozen=True, slots=True)
class Contents:
    """Rows of a file, and the type of each column; `int|null` where several occur."""

    rows: int
    columns: dict[str, str]


def find_format(path: Path) -> str:
    """Return `jsonl` or `parquet`, by the file's ending.

    Raises:
        ConfigError: it has another ending.
    """
    ending = path.suffix.lower().removeprefix(".")
    if ending not in _READERS:
        raise ConfigError(f"{path}: found the ending {path.suffix or '(none)'!r}; allowed: .jsonl, .parquet")
    return ending


def inspect_file(path: Path, *, source: Path) -> Contents:
    """Return what is in a file; `source` names it in errors. Every row of a JSONL file is parsed.

    Raises:
        ConfigError: it is not what its ending says, or holds no row.
        MissingExtra: Parquet needs pyarrow.
    """
    contents = _READERS[find_format(path)](path, source)
    if contents.rows == 0:
        raise ConfigError(f"{source}: holds no row; allowed: at least one")
    return contents


def merge_contents(first: Contents, second: Contents, *, source: Path) -> Contents:
    """Return the contents of two files together; `source` names the second.

    Raises:
        ConfigError: their columns have different names.
    """
    if first.columns.keys() != second.columns.keys():
        raise ConfigError(
            f"{source}: found the columns {', '.join(sorted(second.columns))}; "
            f"allowed: those of the first file, {', '.join(sorted(first.columns))}"
        )
    columns = {name: _union(kind, second.columns[name]) for name, kind in first.columns.items()}
    return Contents(rows=first.rows + second.rows, columns=columns)


def _inspect_jsonl(path: Path, source: Path) -> Contents:
    types: dict[str, set[str]] = {}
    rows = 0
    with path.open("rb") as stream:
        while line := stream.readline(MAX_LINE_BYTES + 1):
            rows += 1
            for name, value in _parse_row(line, f"{source}:{rows}").items():
                types.setdefault(name, set()).add(_JSON_TYPES.get(type(value), "null"))
    return Contents(rows=rows, columns={name: "|".join(sorted(kinds)) for name, kinds in types.items()})


def _parse_row(line: bytes, where: str) -> dict[str, Any]:
    allowed = "allowed: one JSON object a line"
    if len(line) > MAX_LINE_BYTES:
        raise ConfigError(f"{where}: found a line longer than {MAX_LINE_BYTES // 2**20} MiB; {allowed}")
    if not line.strip():
        raise ConfigError(f"{where}: found an empty line; {allowed}")
    try:
        row = json.loads(line.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: found bytes that are not UTF-8 (byte {error.start}); {allowed}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: found {_shorten(line)}: {error}; {allowed}") from error
    if not isinstance(row, dict):
        raise ConfigError(f"{where}: found {_JSON_TYPES.get(type(row), 'null')}; {allowed}")
    return row


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _inspect_parquet(path: Path, source: Path) -> Contents:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("eval", package="pyarrow", needed_for=f"reading {source}") from error
    try:
        with parquet.ParquetFile(path) as file:
            columns = {field.name: str(field.type) for field in file.schema_arrow}
            return Contents(rows=file.metadata.num_rows, columns=columns)
    except (pyarrow.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{source}: not a readable Parquet file: {reason}") from error


def _union(one: str, other: str) -> str:
    return "|".join(sorted({*one.split("|"), *other.split("|")}))


def _shorten(line: bytes) -> str:
    text = line.decode(errors="replace").strip()
    return repr(text if len(text) <= 60 else text[:57] + "...")


_READERS: dict[str, Callable[[Path, Path], Contents]] = {"jsonl": _inspect_jsonl, "parquet": _inspect_parquet}
