"""`nexa logs`: what a run printed."""

from __future__ import annotations

import click

from nexa_cli.arguments import RUN


@click.command()
@click.argument("run", default="last", type=RUN)
@click.option("-f", "--follow", is_flag=True, help="Go on printing until the run ends, across its attempts.")
@click.option("--json", "as_json", is_flag=True, help="Print each line as a JSON object.")
@click.option("-n", "--lines", type=click.IntRange(min=1), help="Only the last N lines (without --follow).")
def command(run: str, follow: bool, as_json: bool, lines: int | None) -> None:
    """Print what RUN printed, over all its attempts; default: the last run, which may be a sweep's member.

    \b
    Example:
      nexa logs -f run_20251030_213000_k3f9
      nexa logs last -n 20
    """
    import json
    import sys
    from collections import deque

    from nexa_cli.naming import find_run
    from nexa_cli.output import printable
    from nexa_infra.operations.context import open_project
    from nexa_infra.operations.live import read_logs

    project = open_project()
    run_id = find_run(project, run)
    printed = read_logs(project, run_id, follow=follow)
    if lines is not None and not follow:
        printed = iter(deque(printed, maxlen=lines))
    is_terminal = sys.stdout.isatty()
    for line in printed:
        if as_json:
            click.echo(json.dumps({"run_id": run_id, "line": line}, ensure_ascii=False))
        else:
            # Into a file or a pipe a log goes as it is; on a terminal it must not be able to write commands to it.
            click.echo(printable(line.replace("\t", "    ")) if is_terminal else line)
