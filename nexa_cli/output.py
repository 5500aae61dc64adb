"""How results are printed: plain aligned columns or JSON on stdout, everything else on stderr."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

_MIN_LAST = 12


def print_json(value: Any) -> None:
    """Print a value as indented JSON on stdout; NaN and infinity, which JSON has no word for, become null."""
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:
        text = json.dumps(_without_nan(value), indent=2, ensure_ascii=False, default=str)
    click.echo(text)


def print_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = (), optional: Sequence[int] = ()
) -> None:
    """Print aligned columns; columns in `right` are aligned to the right.

    On a terminal that is too narrow the columns in `optional` are left out, first ones first, and then the last column
    is cut; into a file or a pipe everything is printed.
    """
    cells = [[printable(cell) for cell in row] for row in [list(headers), *rows]]
    kept = list(range(len(headers)))
    width = terminal_columns()
    for column in optional:
        if width is not None and _needed(cells, kept) > width:
            kept.remove(column)
    last = kept[-1]
    widths = {column: max(len(row[column]) for row in cells) for column in kept}
    if width is not None:
        widths[last] = min(widths[last], max(_MIN_LAST, width - _needed(cells, kept[:-1]) - 2))
    for row in cells:
        shown = [_fit(row[column], widths[column], to_right=column in right) for column in kept]
        click.echo("  ".join(shown).rstrip())


def terminal_columns() -> int | None:
    """Return how many columns the terminal has; None when stdout is a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _needed(cells: Sequence[Sequence[str]], columns: Sequence[int]) -> int:
    return sum(max(len(row[column]) for row in cells) for column in columns) + 2 * max(0, len(columns) - 1)


def _fit(cell: str, width: int, *, to_right: bool) -> str:
    text = cell if len(cell) <= width else cell[: width - 1] + "…"
    return text.rjust(width) if to_right else text.ljust(width)


def print_pairs(pairs: Mapping[str, str | None], *, indent: int = 0) -> None:
    """Print names and values, aligned; a value of None is left out."""
    shown = {name: value for name, value in pairs.items() if value is not None}
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        click.echo(f"{' ' * indent}{printable(name).ljust(width)}  {printable(value)}")


def note(message: str) -> None:
    """Print a line for the person on stderr."""
    click.echo(message, err=True)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    return [_without_nan(inner) for inner in value] if isinstance(value, list | tuple) else value


def printable(text: str) -> str:
    """Return a text as one line whose control characters are replaced: names and logs must not move a cursor."""
    return "".join(character if character.isprintable() else "�" for character in text)
