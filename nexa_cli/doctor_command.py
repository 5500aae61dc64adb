"""`nexa doctor`: is everything ready."""

from __future__ import annotations

from dataclasses import asdict

import click

from nexa_contracts.exit_codes import CommandExit


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> int:
    """Check this machine and this project, and say what to do; exit 1 when something must be mended.

    \b
    Example:
      nexa doctor
    """
    from nexa_cli.output import print_json, print_table
    from nexa_infra.operations.context import open_context
    from nexa_infra.operations.doctor import examine

    checks = list(examine(open_context()))
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        rows = [
            [check.health, check.name, check.found if check.hint is None else f"{check.found}; {check.hint}"]
            for check in checks
        ]
        print_table(["", "check", "found"], rows)
    return CommandExit.FAILED if any(check.health == "fail" for check in checks) else CommandExit.DONE
