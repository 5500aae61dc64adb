"""`nexa data`: datasets, registered and checked."""

from __future__ import annotations

from pathlib import Path

import click

from nexa_contracts.errors import NotFound
from nexa_contracts.units import format_count, format_size


@click.group()
def command() -> None:
    """Register datasets and check their files.

    \b
    Example:
      nexa data register corpus.jsonl --name corpus --licence CC-BY-4.0 --origin https://example.org/corpus
      nexa data show
    """


@command.command("register")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option("--name", required=True, help="Its name; the version is counted up.")
@click.option("--origin", required=True, help="Where the data came from: a URL, or words a stranger can follow.")
@click.option("--licence", help="SPDX identifier, such as CC-BY-4.0.")
@click.option("--by", "collected_by", help="Who or what made the files; default: you.")
@click.option("--parent", "parents", multiple=True, help="A registered dataset it was made from, with version.")
@click.option("--description", default="", help="What it is.")
@click.option("--dry-run", is_flag=True, help="Say what would be registered, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def register_command(
    files: tuple[Path, ...],
    name: str,
    origin: str,
    licence: str | None,
    collected_by: str | None,
    parents: tuple[str, ...],
    description: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Register JSONL or Parquet FILES as a new version of a dataset: copied to durable, counted, digested.

    \b
    Example:
      nexa data register chats.jsonl --name chats --origin "support desk export 2026-10" --licence proprietary
    """
    from nexa_cli.output import print_json
    from nexa_contracts.dataset import SourceProvenance
    from nexa_infra.operations.context import open_context
    from nexa_infra.operations.environment import user_and_host
    from nexa_infra.storage.registration import DatasetDescription, register_dataset

    context = open_context()
    if dry_run:
        _print_dry_run(files, name)
        return
    context.require_tiers()
    manifest = register_dataset(
        context.tiers,
        list(files),
        DatasetDescription(
            name=name,
            licence=licence,
            text=description,
            provenance=SourceProvenance(
                origin=origin,
                collected_at=context.clock.now(),
                collected_by=collected_by or user_and_host(),
                parents=parents,
            ),
        ),
        clock=context.clock,
    )
    if as_json:
        print_json(manifest.model_dump(mode="json"))
        return
    size = sum(file.size_bytes for file in manifest.files)
    click.echo(f"{manifest.label}: {manifest.rows} rows, {format_size(size)}, manifest sha256 {manifest.digest()[:16]}")
    click.echo(f"train on it: --set data.dataset={manifest.label}")


def _print_dry_run(files: tuple[Path, ...], name: str) -> None:
    for path in files:
        if not path.is_file():
            raise NotFound(f"{path}: no such file")
        click.echo(f"would register {path} ({format_size(path.stat().st_size)}) as a version of {name}")


@command.command("show")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_command(name: str | None, as_json: bool) -> None:
    """Show one dataset, or list all of them.

    \b
    Example:
      nexa data show python_stdlib_v1
    """
    from nexa_cli.output import print_json, print_pairs, print_table
    from nexa_infra.operations.context import open_context
    from nexa_infra.storage.datasets import find_dataset, list_datasets

    tiers = open_context().tiers
    if name is None:
        found = list(list_datasets(tiers))
        if as_json:
            print_json([manifest.model_dump(mode="json", exclude={"provenance"}) for manifest in found])
            return
        rows = [
            [manifest.label, str(manifest.rows), format_size(sum(file.size_bytes for file in manifest.files)),
             manifest.licence or "unknown", manifest.provenance.origin]
            for manifest in found
        ]  # fmt: skip
        print_table(["dataset", "rows", "size", "licence", "origin"], rows, right=(1, 2))
        return
    manifest = find_dataset(tiers, name)
    if as_json:
        print_json(manifest.model_dump(mode="json"))
        return
    source = manifest.provenance
    click.echo(f"{manifest.label}: {manifest.description or 'no description'}")
    print_pairs(
        {
            "rows": str(manifest.rows),
            "columns": ", ".join(f"{column} {kind}" for column, kind in manifest.columns.items()),
            "licence": manifest.licence or "unknown",
            "origin": source.origin,
            "collected": f"{source.collected_at:%Y-%m-%d} by {source.collected_by}",
            "parents": ", ".join(source.parents) or None,
            "source files": str(len(source.source_files)) if source.source_files else None,
            **{key: str(value) for key, value in source.details.items()},
            **{file.path: f"{format_size(file.size_bytes)}, sha256 {file.sha256}" for file in manifest.files},
        },
        indent=2,
    )


@command.command("verify")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify_command(names: tuple[str, ...], as_json: bool) -> None:
    """Hash the files of datasets again; a file that changed since it was registered is an error that names it.

    \b
    Example:
      nexa data verify python_stdlib_v1
    """
    from nexa_cli.output import print_json
    from nexa_infra.operations.context import open_context
    from nexa_infra.storage.datasets import find_dataset, verify_dataset

    tiers = open_context().tiers
    verified: dict[str, int] = {}
    for name in names:
        manifest = find_dataset(tiers, name)
        verify_dataset(tiers, manifest)
        verified[manifest.label] = len(manifest.files)
        if not as_json:
            click.echo(f"{manifest.label}: {format_count(len(manifest.files), 'file')} as registered")
    if as_json:
        print_json({"verified": verified})
