"""A run's manifest as a person wants to read it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import click

from nexa_cli.goodput_view import describe_goodput
from nexa_cli.launching import describe_estimate
from nexa_cli.output import print_pairs
from nexa_contracts.run import AttemptRecord, CodeRecord, EnvironmentRecord, RunConfig, RunManifest, RunOutcome
from nexa_contracts.units import format_count, format_duration, format_size, format_usd
from nexa_infra.monitoring.goodput import Goodput
from nexa_infra.operations.compare import flatten
from nexa_infra.operations.record import RunRecord

_MAIN_PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "nexa-compute")
_UNREADABLE = "cannot be read"


def print_manifest(record: RunRecord, *, goodput: Goodput | None) -> None:
    """Print a run in sections: what, result, goodput, config, code, data, environment."""
    manifest = record.manifest
    click.echo(f"{manifest.run_id}: {manifest.name}")
    if manifest.config.description:
        click.echo(f"  {manifest.config.description}")
    _section("launch", dict(_launch(manifest)))
    _section("result", dict(_result(record)))
    _section("goodput", describe_goodput(goodput))
    _section("config", dict(_config(manifest.config)))
    _section("code", _code(manifest.code))
    data: dict[str, str | None] = {
        ref.label: f"{ref.rows} rows, {format_size(ref.size_bytes)}, {ref.manifest_sha256[:16]}"
        for ref in manifest.datasets
    }
    _section("data", data or {"": "none registered"})
    _section("environment", _environment(manifest.environment))
    click.echo(f"\nrun it again: nexa show {manifest.run_id} --reproduce")


def _section(title: str, pairs: dict[str, str | None]) -> None:
    click.echo(f"\n{title}")
    print_pairs(pairs, indent=2)


def _launch(manifest: RunManifest) -> Iterator[tuple[str, str | None]]:
    yield "when", f"{manifest.created_at:%Y-%m-%d %H:%M:%S} UTC by {manifest.created_by}"
    yield "sweep", None if manifest.sweep_id is None else f"{manifest.sweep_id}, member {manifest.index}"
    yield "goes on from", None if manifest.resumes is None else manifest.resumes.run_id
    yield "from", manifest.config_source
    yield "overrides", " ".join(f"{key}={value}" for key, value in manifest.overrides.items()) or None
    yield "on", f"{manifest.backend}, started by {manifest.launcher}"
    yield "command", shlex.join(manifest.command)
    yield "estimate", describe_estimate(manifest.estimate)


def _result(record: RunRecord) -> Iterator[tuple[str, str | None]]:
    outcome, cost = record.outcome, record.cost
    if outcome is None and not record.is_outcome_damaged:
        yield "state", f"not ended: nexa status {record.manifest.run_id}"
        yield from _attempts(record)
        return
    if outcome is None:
        yield "state", _UNREADABLE
    else:
        yield from _outcome(outcome)
    unsettled = _UNREADABLE if record.is_cost_damaged else "not settled yet"
    yield "cost", unsettled if cost is None else format_usd(cost.total)
    if outcome is not None:
        yield from _evidence(outcome)
    yield from _attempts(record)


def _attempts(record: RunRecord) -> Iterator[tuple[str, str | None]]:
    for number, attempt in record.attempts.items():
        yield f"attempt {number}", _UNREADABLE if attempt is None else _attempt(attempt)


def _outcome(outcome: RunOutcome) -> Iterator[tuple[str, str | None]]:
    pruned = "" if outcome.pruned_at_step is None else f", pruned at step {outcome.pruned_at_step}"
    yield "state", f"{outcome.state}{pruned}"
    yield "ended", f"{outcome.ended_at:%Y-%m-%d %H:%M:%S} UTC"
    yield "time", f"{format_duration(outcome.seconds)} in {format_count(outcome.attempts, 'attempt')}"
    yield "steps", None if outcome.steps is None else f"{outcome.steps:,}"
    yield "tokens", None if outcome.tokens is None else f"{outcome.tokens:,}"
    for name, value in outcome.metrics.items():
        yield name, f"{value:.6g}"


def _evidence(outcome: RunOutcome) -> Iterator[tuple[str, str | None]]:
    for artifact in outcome.artifacts:
        yield artifact.kind, f"{artifact.path} ({format_size(artifact.size_bytes)}, seal {artifact.seal_sha256[:16]})"
    if outcome.failure is not None:
        yield "failure", f"{outcome.failure.kind}: {outcome.failure.message}"
        for number, line in enumerate(outcome.failure.evidence):
            yield f"line {number + 1}", line


def _attempt(attempt: AttemptRecord) -> str:
    resumed = "" if attempt.resumed_from is None else f", from {attempt.resumed_from}"
    why = "" if attempt.failure is None else f": {attempt.failure.kind}, {attempt.failure.message}"
    return f"{attempt.state} after {format_duration(attempt.seconds)}{resumed}{why}"


def _config(config: RunConfig) -> Iterator[tuple[str, str | None]]:
    for key, value in flatten(config.model_dump(mode="json", exclude_defaults=True)):
        yield key, shlex.join(value) if key == "command" else str(value)


def _code(code: CodeRecord) -> dict[str, str | None]:
    dirty = {None: "", True: " with changes", False: ""}[code.is_dirty]
    return {
        "commit": "not a git checkout" if code.commit is None else f"{code.commit}{dirty}",
        "branch": code.branch,
        "diff": None if code.diff_sha256 is None else f"sha256 {code.diff_sha256[:16]}",
        "snapshot": f"{code.snapshot[:16]} ({format_count(code.snapshot_files, 'file')}, "
        f"{format_size(code.snapshot_bytes)})",
        "taken for": code.taken_for,
        "left out": ", ".join(code.left_out) or None,
    }


def _environment(record: EnvironmentRecord) -> dict[str, str | None]:
    packages = " ".join(f"{name} {record.packages[name]}" for name in _MAIN_PACKAGES if name in record.packages)
    return {
        "host": f"{record.hostname}, {record.platform}",
        "cpu": f"{record.cpu}, {record.cpu_count} cores, {format_size(record.memory_bytes)}",
        "gpus": ", ".join(gpu.name for gpu in record.gpus) or "none",
        "driver": record.driver,
        "python": record.python,
        "packages": f"{packages} (and {len(record.packages)} in all)",
        "variables": " ".join(f"{name}={value}" for name, value in record.variables.items()) or None,
    }
