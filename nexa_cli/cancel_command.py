"""`nexa cancel`: end runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nexa_cli.arguments import RUN_OR_SWEEP
from nexa_contracts.exit_codes import CommandExit
from nexa_contracts.states import JobState

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command()
@click.argument("submissions", nargs=-1, required=True, metavar="RUN|SWEEP...", type=RUN_OR_SWEEP)
@click.option("--dry-run", is_flag=True, help="Say what would be ended, and end nothing.")
@click.option("--wait/--no-wait", default=True, help="Return when the runs have ended.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(submissions: tuple[str, ...], dry_run: bool, wait: bool, as_json: bool) -> int:
    """End runs or sweeps: whole process trees, after they had time to save a checkpoint. Safe to repeat.

    `last` is what was launched last. Runs of a sweep that was only written are ended on record.

    Exits with 1 when the backend does not know a run, because its launch was cut off or the queue was lost.

    \b
    Example:
      nexa cancel run_20251030_213000_k3f9
    """
    from nexa_cli.live import watch_submission
    from nexa_cli.naming import find_submission
    from nexa_cli.output import print_json
    from nexa_contracts.units import format_count
    from nexa_infra.operations.context import open_project
    from nexa_infra.operations.live import cancel_runs, live_states, member_ids
    from nexa_infra.operations.status import Watcher

    project = open_project()
    ended: dict[str, str] = {}
    unknown: list[str] = []
    for text in submissions:
        name = find_submission(project, text)
        run_ids = member_ids(project, name)
        view = Watcher(project, name, run_ids, live_states()).look()
        open_ids = [run.run_id for run in view.runs if not run.state.is_final]
        if name != run_ids[0] and open_ids and not as_json:
            verb = "would end" if dry_run else "ending"
            click.echo(f"{name}: {verb} {format_count(len(open_ids), 'run')} of {len(run_ids)}")
        if not dry_run and open_ids:
            written = _end_unasked(open_ids) if any(run.is_unasked for run in view.runs) else frozenset()
            ended |= dict.fromkeys(sorted(written), str(JobState.CANCELLED))
            open_ids = [run_id for run_id in open_ids if run_id not in written]
            held = cancel_runs(project, open_ids) if open_ids else frozenset()
            unknown += [run_id for run_id in open_ids if run_id not in held]
            open_ids = [run_id for run_id in open_ids if run_id in held]
            if wait and open_ids:
                view = watch_submission(project, name, open_ids, quiet=True)
        ended |= {run.run_id: run.label for run in view.runs if run.run_id in open_ids}
    if as_json:
        print_json({"dry_run": dry_run, "runs": ended, "unknown": unknown})
        return CommandExit.FAILED if unknown else CommandExit.DONE
    for run_id, state in ended.items():
        click.echo(f"{run_id}: " + (f"would be ended ({state})" if dry_run else state))
    for run_id in unknown:
        click.echo(f"{run_id}: the backend does not hold it: it was never submitted, or was lost")
    if not ended and not unknown:
        click.echo("nothing to end: every run has ended")
    return CommandExit.FAILED if unknown else CommandExit.DONE


def _end_unasked(run_ids: Sequence[str]) -> frozenset[str]:
    from nexa_infra.operations.context import open_context
    from nexa_infra.operations.live import live_states
    from nexa_infra.operations.unasked import end_unasked

    return end_unasked(open_context(), run_ids, live=live_states())
