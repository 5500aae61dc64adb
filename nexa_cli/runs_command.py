"""`nexa runs`: the list."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from nexa_cli.arguments import FIELD
from nexa_contracts.clock import SystemClock

if TYPE_CHECKING:
    from nexa_infra.operations.status import LiveState
    from nexa_infra.storage.layout import Project
    from nexa_infra.storage.run_rows import RunRow
    from nexa_infra.storage.where import Condition


@click.command()
@click.option(
    "-w",
    "--where",
    "conditions",
    multiple=True,
    type=FIELD,
    metavar="CONDITION",
    help="Only runs with, say, state=FAILED.",
)
@click.option("-n", "--limit", type=click.IntRange(1, 10**9), default=50, show_default=True, help="At most N runs.")
@click.option("--all", "everything", is_flag=True, help="All runs, however many.")
@click.option(
    "--sort", type=FIELD, metavar="FIELD", help="Order by a field; -FIELD turns it round.  [default: newest first]"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(conditions: tuple[str, ...], limit: int, everything: bool, sort: str | None, as_json: bool) -> None:
    """List runs, newest first; `nexa sweeps` lists sweeps.

    \b
    Conditions take = != < <= > >= and ~ (contains); several must all hold.
    Fields: run sweep index name state created ended seconds attempts backend gpu gpus steps tokens loss
    eval_loss cost estimate resumes failure, and tag.K point.K metrics.K config.K.

    \b
    Example:
      nexa runs --where state=FAILED --where 'created>2026-11-01'
      nexa runs --where 'eval_loss<2.5' --sort eval_loss --json
    """
    from nexa_cli.output import note, print_json, print_table
    from nexa_cli.rows import row_cells, row_data
    from nexa_cli.unreadable import print_unreadable
    from nexa_infra.operations.context import open_project
    from nexa_infra.storage.where import parse_where

    where = [parse_where(condition) for condition in conditions]
    found = _list(open_project(), where, limit=None if everything else limit, sort=sort)
    if as_json:
        print_json([row_data(row, found.live.get(row.run_id)) for row in found.rows])
    elif not found.rows:
        note("no runs" if not conditions else "no runs that meet the conditions")
    else:
        more = ["sweep"] if found.sweeps else []
        headers = ["run", "name", *more, "state", "created", "time", "eval loss", "loss", "cost", "point"]
        print_table(
            headers,
            [row_cells(row, found.live.get(row.run_id), sweeps=found.sweeps) for row in found.rows],
            right=[headers.index(name) for name in ("time", "eval loss", "loss", "cost")],
            optional=[headers.index(name) for name in ("created", "loss", "time", *more, "name", "cost")],
        )
        if found.total > len(found.rows):
            note(f"{len(found.rows)} of {found.total}; nexa runs --all, or -n {found.total}")
    print_unreadable(found.problems)
    if found.trouble is not None:
        note(f"warning: {found.trouble}")


@dataclass(frozen=True, slots=True)
class _Found:
    rows: Sequence[RunRow]
    total: int
    live: Mapping[str, LiveState]
    sweeps: Mapping[str, str]
    """The name of each sweep that a row is of, by its id."""
    problems: Sequence[str]
    trouble: str | None


def _list(project: Project, where: Sequence[Condition], *, limit: int | None, sort: str | None) -> _Found:
    from nexa_infra.storage.index import open_index

    with open_index(project) as index:
        rows = index.find_runs(where, limit=limit, sort=sort)
        live, trouble = _ask(project, rows)
        lost = [row.run_id for row in rows if row.state is None and row.sweep_id is None and row.run_id not in live]
        if trouble is None and lost and _settle(project, lost):
            index.refresh()
            rows = index.find_runs(where, limit=limit, sort=sort)
            live, trouble = _ask(project, rows)
        total = len(rows) if limit is None or len(rows) < limit else index.count_runs(where)
        sweep_ids = {row.sweep_id for row in rows if row.sweep_id is not None}
        names = {row.sweep_id: row.name for row in index.find_sweeps()} if sweep_ids else {}
        sweeps = {sweep_id: names.get(sweep_id, sweep_id) for sweep_id in sweep_ids}
        return _Found(rows, total, live, sweeps, index.problems, trouble)


def _settle(project: Project, lost: Sequence[str]) -> bool:
    from nexa_infra.operations.unsubmitted import settle_unsubmitted

    return bool(settle_unsubmitted(project, lost, environment=os.environ, clock=SystemClock()))


def _ask(project: Project, rows: Sequence[RunRow]) -> tuple[Mapping[str, LiveState], str | None]:
    from nexa_contracts.errors import StorageError
    from nexa_infra.operations.live import live_states
    from nexa_infra.operations.status import tell_unasked

    open_ids = [row.run_id for row in rows if row.state is None]
    try:
        return tell_unasked(project, open_ids, live_states()(open_ids)) if open_ids else {}, None
    except StorageError as error:
        return {}, error.message  # the list is what tells which runs a lost queue held
