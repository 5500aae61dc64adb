"""A sweep's manifest as a person wants to read it."""

from __future__ import annotations

import click

from nexa_cli.naming import find_sweep
from nexa_cli.output import print_json, print_pairs
from nexa_contracts.sweep import SweepManifest
from nexa_contracts.units import format_count
from nexa_infra.operations.compare import flatten
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import read_sweep_manifest


def show_sweep(project: Project, text: str, *, as_json: bool) -> None:
    """Print what a sweep was launched with.

    Raises:
        NotFound: there is no such sweep.
        ConfigError: several begin so, or its manifest does not fit the schema.
    """
    manifest = read_sweep_manifest(project, find_sweep(project, text))
    if as_json:
        print_json({"manifest": manifest.model_dump(mode="json")})
        return
    config = manifest.config
    click.echo(f"{manifest.sweep_id}: {manifest.name}")
    if config.description:
        click.echo(f"  {config.description}")
    side_by_side = None if manifest.max_parallel is None else f"at most {manifest.max_parallel}"
    print_pairs(
        {
            "when": f"{manifest.created_at:%Y-%m-%d %H:%M:%S} UTC",
            "from": manifest.config_source,
            "search": f"{config.search}, {format_count(manifest.count, 'run')}",
            "side by side": side_by_side,
            "objective": f"{config.objective.direction} {config.objective.metric}",
        },
        indent=2,
    )
    click.echo("\naxes")
    print_pairs(
        {key: _describe(axis.model_dump(mode="json", exclude_none=True)) for key, axis in config.axes.items()}, indent=2
    )
    click.echo("\nbase config")
    base = manifest.base_config.model_dump(mode="json", exclude_defaults=True)
    print_pairs({key: str(value) for key, value in flatten(base)}, indent=2)
    _print_next(manifest)


def _describe(axis: dict[str, object]) -> str:
    return ", ".join(f"{kind} {values}" for kind, values in axis.items())


def _print_next(manifest: SweepManifest) -> None:
    click.echo(f"\nits runs: nexa status {manifest.sweep_id}; ranked: nexa leaderboard {manifest.sweep_id}")
