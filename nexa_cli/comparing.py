"""Differences between runs on a screen: run ids are long, so letters stand for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from nexa_cli.output import print_pairs, print_table, printable, terminal_columns

if TYPE_CHECKING:
    from nexa_infra.operations.compare import Difference

_LETTERS = 26
_GAP = 2


def print_differences(run_ids: Sequence[str], differences: Sequence[Difference]) -> None:
    """Print which letter is which run, then a line for each difference; a block for each where lines are too long."""
    names = [_letter(number) for number in range(len(run_ids))]
    print_pairs(dict(zip(names, run_ids, strict=True)))
    click.echo()
    headers = ["", "key", *names]
    rows = [[item.section, item.key, *map(printable, item.values)] for item in differences]
    needed = sum(max(len(row[column]) for row in [headers, *rows]) + _GAP for column in range(len(headers))) - _GAP
    width = terminal_columns()
    if width is None or needed <= width:
        print_table(headers, rows)
        return
    for section, key, *values in rows:
        click.echo(f"{section}  {key}")
        print_pairs(dict(zip(names, values, strict=True)), indent=_GAP)


def _letter(number: int) -> str:
    """Return A to Z, then AA, AB, as columns of a sheet are called."""
    before, last = divmod(number, _LETTERS)
    return (_letter(before - 1) if before else "") + chr(ord("A") + last)
