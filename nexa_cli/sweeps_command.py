"""`nexa sweeps`: the list."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from nexa_infra.storage.layout import Project


@click.command()
@click.option("-n", "--limit", type=click.IntRange(1, 10**9), default=20, show_default=True, help="At most N sweeps.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(limit: int, as_json: bool) -> None:
    """List sweeps, newest first, with the number of their runs by state.

    \b
    Example:
      nexa sweeps
    """
    from nexa_cli.output import note, print_json, print_table
    from nexa_cli.unreadable import warn_of_unreadable
    from nexa_cli.views import describe_counts
    from nexa_contracts.units import format_usd
    from nexa_infra.operations.context import open_project

    project = open_project()
    found = _list(project, limit)
    if as_json:
        print_json(found)
    elif not found:
        note("no sweeps")
    else:
        rows = [
            [sweep["sweep_id"], sweep["name"], f"{sweep['created_at']:%Y-%m-%d %H:%M:%S}", str(sweep["runs"]),
             format_usd(sweep["known_usd"]), describe_counts(sweep["counts"])]
            for sweep in found
        ]  # fmt: skip
        print_table(["sweep", "name", "created", "runs", "known cost", "states"], rows, right=(3, 4), optional=(2, 4))
    warn_of_unreadable(project)


def _list(project: Project, limit: int) -> list[dict[str, Any]]:
    from datetime import UTC, datetime

    from nexa_cli.rows import row_label
    from nexa_infra.operations.live import live_states
    from nexa_infra.operations.status import tell_unasked
    from nexa_infra.storage.index import open_index
    from nexa_infra.storage.where import Condition

    ask = live_states()
    sweeps: list[dict[str, Any]] = []
    with open_index(project) as index:
        for sweep in index.find_sweeps(limit=limit):
            rows = index.find_runs([Condition("sweep", "=", sweep.sweep_id)])
            newest = {row.member: row for row in reversed(rows)}  # rows come newest first, and the newest counts
            open_ids = [row.run_id for row in newest.values() if row.state is None]
            live = tell_unasked(project, open_ids, ask(open_ids))
            counts = Counter(row_label(row, live.get(row.run_id)) for row in newest.values())
            known = [row.total_usd for row in rows if row.total_usd is not None]
            sweeps.append(
                {
                    "sweep_id": sweep.sweep_id,
                    "name": sweep.name,
                    "created_at": datetime.fromtimestamp(sweep.created_s, UTC),
                    "runs": sweep.run_count,
                    "counts": dict(counts.most_common()),
                    "known_usd": sum(known) if known else None,
                    "metric": sweep.metric,
                    "direction": sweep.direction,
                }
            )
    return sweeps
