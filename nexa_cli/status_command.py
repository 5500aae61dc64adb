"""`nexa status`: how a run or a sweep is doing."""

from __future__ import annotations

import os
from dataclasses import asdict

import click

from nexa_cli.arguments import RUN_OR_SWEEP
from nexa_contracts.clock import SystemClock
from nexa_contracts.states import JobState


@click.command()
@click.argument("submission", default="last", metavar="[RUN|SWEEP]", type=RUN_OR_SWEEP)
@click.option("-w", "--watch", is_flag=True, help="Redraw until it ends.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(submission: str, watch: bool, as_json: bool) -> None:
    """Tell how RUN or SWEEP is doing: states, progress, cost so far, failures with the lines that show them.

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
    from nexa_infra.operations.live import live_states, member_ids
    from nexa_infra.operations.status import Watcher
    from nexa_infra.operations.unsubmitted import settle_unsubmitted

    project = open_project()
    name = find_submission(project, submission)
    run_ids = member_ids(project, name)
    view = watch_submission(project, name, run_ids, quiet=as_json) if watch else Watcher(
        project, name, run_ids, live_states()
    ).look()  # fmt: skip
    lost = [run.run_id for run in view.runs if run.state is JobState.UNKNOWN and view.trouble is None]
    if lost and settle_unsubmitted(project, lost, environment=os.environ, clock=SystemClock()):
        view = Watcher(project, name, run_ids, live_states()).look()
    if view.trouble is not None:
        note(f"warning: {view.trouble}")
    ended = [run.run_id for run in view.runs if run.state.is_final and not project.cost(run.run_id).exists()]
    if ended:
        from nexa_infra.operations.context import open_context
        from nexa_infra.operations.reconcile import try_to_settle

        problem = try_to_settle(open_context(), ended)
        if problem is not None:
            note(f"warning: costs are not settled: {problem}")
    if as_json:
        print_json(asdict(view) | {"counts": view.counts, "is_final": view.is_final, "known_cost": view.known_cost})
    else:
        print_view(view)
