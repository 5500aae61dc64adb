"""What differs between runs: config, code, data, environment and result, key by key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nexa_contracts.run import RunManifest, RunOutcome

MISSING = "-"


@dataclass(frozen=True, slots=True)
class Difference:
    """One key with the value it has in each run."""

    section: str
    key: str
    values: tuple[str, ...]
    """As a person reads them; `-` where a run has no such key."""
    data: tuple[Any, ...]
    """As they were recorded; None where a run has no such key."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that differs between runs, in the order of the runs."""

    run_ids: tuple[str, ...]
    differences: tuple[Difference, ...]


def compare_runs(manifests: Sequence[RunManifest], outcomes: Sequence[RunOutcome | None]) -> Comparison:
    """Return what differs between runs; equal keys are left out. `outcomes` is in the order of the manifests."""
    sections: dict[str, list[dict[str, Any]]] = {
        "config": [_flatten(manifest.config.model_dump(mode="json")) for manifest in manifests],
        "code": [_flatten(_code(manifest)) for manifest in manifests] if _has_several_codes(manifests) else [],
        "data": [_flatten({ref.name: f"v{ref.version} {ref.manifest_sha256[:12]}" for ref in manifest.datasets})
                 for manifest in manifests],
        "environment": [_flatten(_environment(manifest)) for manifest in manifests],
        "result": [_flatten(_result(outcome)) for outcome in outcomes],
    }  # fmt: skip
    differences = [
        Difference(section=section, key=key, values=tuple(map(_text, data)), data=data)
        for section, sides in sections.items()
        for key, data in _differing(sides)
    ]
    return Comparison(run_ids=tuple(manifest.run_id for manifest in manifests), differences=tuple(differences))


def flatten(value: Mapping[str, Any], *, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each leaf of nested mappings with its dotted key; lists are leaves."""
    for key, inner in value.items():
        name = f"{prefix}{key}"
        if isinstance(inner, Mapping) and inner:
            yield from flatten(inner, prefix=f"{name}.")
        else:
            yield name, inner


def _differing(sides: Sequence[dict[str, Any]]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    keys = dict.fromkeys(key for side in sides for key in side)
    for key in keys:
        values = tuple(side.get(key) for side in sides)
        if len(set(map(_text, values))) > 1:
            yield key, values


def _flatten(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: leaf for key, leaf in flatten(value) if leaf is not None and leaf != {}}


def _text(value: Any) -> str:
    if value is None:
        return MISSING
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_text(item) for item in value) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _has_several_codes(manifests: Sequence[RunManifest]) -> bool:
    # Equal files are equal code, whatever commit they were taken from.
    return len({manifest.code.snapshot for manifest in manifests}) > 1


def _code(manifest: RunManifest) -> dict[str, Any]:
    code = manifest.code
    return {
        "commit": code.commit,
        "branch": code.branch,
        "is_dirty": code.is_dirty,
        "diff": code.diff_sha256 and code.diff_sha256[:12],
        "snapshot": code.snapshot[:16],
    }


def _environment(manifest: RunManifest) -> dict[str, Any]:
    record = manifest.environment
    return {
        "hostname": record.hostname,
        "python": record.python,
        "platform": record.platform,
        "cpu": record.cpu,
        "cpu_count": record.cpu_count,
        "driver": record.driver,
        "gpus": [gpu.name for gpu in record.gpus] or None,
        "packages": record.packages,
        "variables": record.variables,
    }


def _result(outcome: RunOutcome | None) -> dict[str, Any]:
    if outcome is None:
        return {"state": "not ended"}
    return {
        "state": str(outcome.state),
        "attempts": outcome.attempts,
        "seconds": outcome.seconds,
        "steps": outcome.steps,
        "tokens": outcome.tokens,
        "metrics": outcome.metrics,
        "failure": outcome.failure and f"{outcome.failure.kind}: {outcome.failure.message}",
    }
