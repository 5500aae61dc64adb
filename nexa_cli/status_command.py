"""`nexa status`: how a run or a sweep is doing."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from nexa_cli.arguments import RUN_OR_SWEEP
from nexa_contracts.clock import SystemClock
from nexa_contracts.exit_codes import CommandExit
from nexa_contracts.states import JobState

if TYPE_CHECKING:
    from nexa_infra.operations.status import SubmissionView
    from nexa_infra.storage.layout import Project

_SETTLED_AT_ONCE = 100
"""Of a large sweep the others are left to the next look: this one is to be quick."""


@click.command()
@click.argument("submission", default="last", metavar="[RUN|SWEEP]", type=RUN_OR_SWEEP)
@click.option("-w", "--watch", is_flag=True, help="Redraw until it ends.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(submission: str, watch: bool, as_json: bool) -> int:
    """Tell how RUN or SWEEP is doing: states, progress, cost so far, failures with the lines that show them.

    `last`, which need not be given, is what was launched last: a run, or a sweep with all its runs.

    \b
    Example:
      nexa status
      nexa status sweep_20251030_213000_k3f9 --watch
    """
    from nexa_cli.live import watch_submission
    from nexa_cli.naming import find_submission
    from nexa_cli.output import note, print_json
    from nexa_cli.views import print_view
    from nexa_infra.operations.context import open_project
    from nexa_infra.operations.live import live_states, member_rows
    from nexa_infra.operations.status import Watcher
    from nexa_infra.operations.unsubmitted import settle_unsubmitted

    project = open_project()
    name = find_submission(project, submission)
    rows = member_rows(project, name)
    run_ids = [row.run_id for row in rows] or [name]
    try:
        view = watch_submission(project, name, run_ids, quiet=as_json) if watch else Watcher(
            project, name, run_ids, live_states(explains=True), rows=rows
        ).look()  # fmt: skip
    except KeyboardInterrupt:
        note(f"\n{name} goes on; watch: nexa status {name} --watch; end: nexa cancel {name}")
        return CommandExit.INTERRUPTED
    lost = [run.run_id for run in view.runs if run.state is JobState.UNKNOWN and view.trouble is None]
    if lost and settle_unsubmitted(project, lost, environment=os.environ, clock=SystemClock()):
        view = Watcher(project, name, run_ids, live_states()).look()
    if view.trouble is not None:
        note(f"warning: {view.trouble}")
    _settle_costs(project, view)
    if as_json:
        print_json(asdict(view) | {"counts": view.counts, "is_final": view.is_final, "known_cost": view.known_cost})
    else:
        print_view(view)
    return CommandExit.DONE


def _settle_costs(project: Project, view: SubmissionView) -> None:
    from nexa_cli.output import note
    from nexa_infra.storage.recorded import find_costed

    final = [run.run_id for run in view.runs if run.state.is_final]
    ended = sorted(set(final) - find_costed(project, final))
    if not ended:
        return
    from nexa_infra.operations.context import open_context
    from nexa_infra.operations.reconcile import try_to_settle

    problem = try_to_settle(open_context(), ended[:_SETTLED_AT_ONCE])
    if len(ended) > _SETTLED_AT_ONCE:
        note(f"costs of {len(ended) - _SETTLED_AT_ONCE} more runs are not settled yet: nexa watch --once")
    if problem is not None:
        note(f"warning: costs are not settled: {problem}")
