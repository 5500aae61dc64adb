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
      nexa storage recover
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


@command.command("recover")
@click.option("--dry-run", is_flag=True, help="Say what would be promoted, and promote nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def recover_command(dry_run: bool, as_json: bool) -> int:
    """Promote what ended runs could not bring to durable, because it was full, read-only or not there.

    Final models and checkpoints to be kept, as long as they are whole on scratch. Promotions that were cut off are
    settled too. Safe to repeat, and beside runs that go on. Exits with 1 when something still cannot be promoted.

    \b
    Example:
      nexa storage recover --dry-run
      nexa storage recover
    """
    from nexa_cli.output import note, print_json
    from nexa_contracts.exit_codes import CommandExit
    from nexa_infra.operations.context import open_context
    from nexa_infra.operations.recover import find_unpromoted, recover_artifacts

    context = open_context()
    if dry_run:
        names = [label.name for _, label in find_unpromoted(context)]
        if as_json:
            print_json({"dry_run": True, "promoted": names, "failed": []})
        for name in () if as_json else names or ["nothing to promote"]:
            click.echo(name)
        return CommandExit.DONE
    recovered = recover_artifacts(context)
    if as_json:
        names = [artifact.name for artifact in recovered.promoted]
        print_json({"dry_run": False, "promoted": names, "failed": list(recovered.failed)})
    elif not recovered.promoted and not recovered.failed:
        click.echo("nothing to promote")
    for artifact in () if as_json else recovered.promoted:
        click.echo(
            f"{artifact.name}: promoted, {format_size(artifact.size_bytes)}, {context.tiers.durable / artifact.path}"
        )
    for line in () if as_json else recovered.failed:
        note(f"warning: {line}")
    return CommandExit.FAILED if recovered.failed else CommandExit.DONE
