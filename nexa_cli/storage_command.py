"""`nexa storage`: the tiers, set up and shown."""

from __future__ import annotations

import click

from nexa_contracts.units import format_size


@click.group()
def command() -> None:
    """Set up the storage tiers and see what is in them.

    \b
    Example:
      nexa storage init
      nexa storage show
    """


@command.command("init")
@click.option("--dry-run", is_flag=True, help="Say what would be made, and make nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def init_command(dry_run: bool, as_json: bool) -> None:
    """Make the folders of the three tiers and mark each as what it is; safe to repeat.

    \b
    Example:
      nexa storage init --dry-run
    """
    from nexa_cli.output import print_json, print_table
    from nexa_infra.operations.context import open_context
    from nexa_infra.storage.layout import TIER_MARKER
    from nexa_infra.storage.tiers import init_tiers

    context = open_context()
    tiers = context.tiers
    made = () if dry_run else init_tiers(tiers, clock=context.clock)
    folders = {"scratch": tiers.scratch, "durable": tiers.durable, "shared": tiers.shared}
    if as_json:
        print_json(
            {"tiers": {name: str(path) for name, path in folders.items()}, "made": list(made), "dry_run": dry_run}
        )
        return
    missing = {name for name, path in folders.items() if not (path / TIER_MARKER).exists()}
    rows = [
        [name, "would be made" if name in missing else ("made" if name in made else "was there"), str(path)]
        for name, path in folders.items()
    ]
    print_table(["tier", "state", "folder"], rows)


@command.command("show")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_command(as_json: bool) -> None:
    """Show each tier: files, bytes, free space, folder.

    \b
    Example:
      nexa storage show --json
    """
    from dataclasses import asdict

    from nexa_cli.output import print_json, print_table
    from nexa_infra.operations.context import open_context
    from nexa_infra.storage.tiers import describe_tiers

    context = open_context()
    described = describe_tiers(context.tiers)
    if as_json:
        print_json([asdict(tier) for tier in described])
        return
    rows = [
        [
            tier.name,
            str(tier.files),
            format_size(tier.size_bytes),
            format_size(tier.free_bytes),
            str(tier.path),
        ]
        for tier in described
    ]
    print_table(["tier", "files", "size", "free", "folder"], rows, right=(1, 2, 3))
