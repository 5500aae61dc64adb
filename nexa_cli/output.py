"""How results are printed: plain aligned columns or JSON on stdout, everything else on stderr."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

_MIN_LAST = 12


def print_json(value: Any) -> None:
    """Print a value as indented JSON on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print aligned columns; columns in `right` are aligned to the right.

    On a terminal the last column is cut to the width; into a file or a pipe everything is printed.
    """
    cells = [[printable(cell) for cell in row] for row in [list(headers), *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    if sys.stdout.isatty():
        room = shutil.get_terminal_size().columns - sum(widths[:-1]) - 2 * (len(widths) - 1)
        widths[-1] = min(widths[-1], max(_MIN_LAST, room))
    for row in cells:
        parts = [
            (cell.rjust(width) if column in right else cell.ljust(width))
            for column, (cell, width) in enumerate(zip(row[:-1], widths[:-1], strict=True))
        ]
        last = row[-1]
        if len(last) > widths[-1]:
            last = last[: widths[-1] - 1] + "…"
        if len(row) - 1 in right:
            last = last.rjust(widths[-1])
        click.echo("  ".join([*parts, last]).rstrip())


def print_pairs(pairs: Mapping[str, str | None], *, indent: int = 0) -> None:
    """Print names and values, aligned; a value of None is left out."""
    shown = {name: value for name, value in pairs.items() if value is not None}
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        click.echo(f"{' ' * indent}{printable(name).ljust(width)}  {printable(value)}")


def note(message: str) -> None:
    """Print a line for the person on stderr."""
    click.echo(message, err=True)


def printable(text: str) -> str:
    """Return a text as one line whose control characters are replaced: names and logs must not move a cursor."""
    return "".join(character if character.isprintable() else "�" for character in text)
