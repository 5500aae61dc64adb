"""`nexa runs`: the list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexa_infra.operations.status import LiveState


@click.command()
@click.option(
    "-w", "--where", "conditions", multiple=True, metavar="CONDITION", help="Only runs with, say, state=FAILED."
)
@click.option("-n", "--limit", type=click.IntRange(1, 10**9), default=50, show_default=True, help="At most N runs.")
@click.option("--all", "everything", is_flag=True, help="All runs, however many.")
@click.option("--sort", metavar="FIELD", help="Order by a field; -FIELD turns it round.  [default: newest first]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(conditions: tuple[str, ...], limit: int, everything: bool, sort: str | None, as_json: bool) -> None:
    """List runs, newest first.

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
    from nexa_contracts.errors import StorageError
    from nexa_infra.operations.context import open_project
    from nexa_infra.operations.live import live_states
    from nexa_infra.storage.index import open_index
    from nexa_infra.storage.where import parse_where

    project = open_project()
    where = [parse_where(condition) for condition in conditions]
    with open_index(project) as index:
        rows = index.find_runs(where, limit=None if everything else limit, sort=sort)
        total = len(rows) if everything or len(rows) < limit else index.count_runs(where)
        problems = index.problems
    open_ids = [row.run_id for row in rows if row.state is None]
    live: Mapping[str, LiveState] = {}
    try:
        live = live_states()(open_ids) if open_ids else {}
    except StorageError as error:
        problems = (*problems, error.message)  # the list is what tells which runs a lost queue held
    if as_json:
        print_json([row_data(row, live.get(row.run_id)) for row in rows])
    elif not rows:
        note("no runs" if not conditions else "no runs that meet the conditions")
    else:
        print_table(
            ["run", "name", "state", "created", "time", "eval loss", "loss", "cost", "point"],
            [row_cells(row, live.get(row.run_id)) for row in rows],
            right=(4, 5, 6, 7),
            optional=(3, 6, 4, 1, 7),
        )
        if total > len(rows):
            note(f"{len(rows)} of {total}; nexa runs --all, or -n {total}")
    for problem in problems:
        note(f"warning: {problem}")
