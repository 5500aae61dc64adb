"""`nexa watch`: look after runs until they have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nexa_cli.arguments import RUN_OR_SWEEP
from nexa_contracts.exit_codes import CommandExit

if TYPE_CHECKING:
    from nexa_infra.operations.watching import Looked

_LONGEST_S = 600.0


@click.command()
@click.argument("submissions", nargs=-1, metavar="[RUN|SWEEP]...", type=RUN_OR_SWEEP)
@click.option(
    "--once", is_flag=True, help="Look once and return, as from cron; exit 4 when something could not be done."
)
@click.option(
    "--interval",
    type=click.FloatRange(1.0, _LONGEST_S),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks; longer while a scheduler does not answer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print each look as a JSON object.")
def command(submissions: tuple[str, ...], once: bool, interval: float, as_json: bool) -> int:
    """Look after the runs of this project until all have ended: settle what ended in silence, hand over what waits.

    Runs do not need it: every command that looks at runs does the same for those. It may be started and stopped at any
    time, by several people at once, and run under systemd or, with --once, under cron.

    \b
    Example:
      nexa watch
      nexa watch sweep_20251030_213000_k3f9 --once
    """
    from nexa_cli.naming import find_submission
    from nexa_cli.output import note
    from nexa_infra.operations.context import open_context
    from nexa_infra.operations.watching import Keeper

    context = open_context()
    names = [find_submission(context.project, text) for text in submissions]
    keeper = Keeper(context, names or None)
    said = None
    pause_s = interval
    try:
        while True:
            look = keeper.look()
            if look != said:
                _print(look, as_json=as_json)
                said = look
            if once:
                return CommandExit.EXTERNAL if look.troubles else CommandExit.DONE
            if look.is_over:
                return CommandExit.DONE
            pause_s = min(_LONGEST_S, pause_s * 2) if look.troubles else interval
            context.clock.sleep(pause_s)
    except KeyboardInterrupt:
        note("\nthe runs go on")
        return CommandExit.INTERRUPTED


def _print(look: Looked, *, as_json: bool) -> None:
    import json
    from dataclasses import asdict

    from nexa_cli.output import note, printable
    from nexa_cli.views import describe_counts
    from nexa_contracts.units import format_count

    if as_json:
        click.echo(json.dumps(asdict(look), ensure_ascii=False))
        return
    parts = [describe_counts(look.counts) or "every run has ended"]
    if look.handed_over:
        parts.append(f"{format_count(look.handed_over, 'run')} handed over")
    if look.held:
        parts.append(f"{format_count(look.held, 'held job')} let go or ended that no node could start")
    if look.costed:
        parts.append(f"{format_count(look.costed, 'cost')} settled")
    for sweep_id, count in look.written.items():
        one = "run was" if count == 1 else "runs were"
        parts.append(
            f"{count} {one} only written: nexa sweep --resume {sweep_id} submits {'it' if count == 1 else 'them'}"
        )
    click.echo("; ".join(parts))
    for trouble in look.troubles:
        note(f"warning: {printable(trouble)}")
