"""How fast this node's GPUs are, held to what the fleet's are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median

from nexa_contracts.errors import ConfigError, EvidenceMissing, ExternalError
from nexa_contracts.health import Baseline, CheckResult, HealthReport
from nexa_infra.health.checks.finding import Finding, summarise, unknown
from nexa_infra.health.sources import Sources
from nexa_infra.process import tail
from nexa_infra.storage.atomic import replace_file, storage_errors

LEAST = 0.95
NAME = "gpu_speed"
_TIMEOUT_S = 180.0
_THRESHOLD = f"{LEAST:g} of the fleet's baseline"


def measure_speed(sources: Sources) -> tuple[dict[str, float], str]:
    """Return the speeds of the slowest GPU by name, empty with the reason when they cannot be measured."""
    try:
        reply = sources.run_own("gpu_speed", timeout_s=_TIMEOUT_S).require_success()
        said = json.loads(reply.stdout)
    except ExternalError as error:
        return {}, error.message
    except ValueError:
        return {}, f"found {tail(reply.stdout)!r}; expected a line of JSON"
    speeds = said.get("speeds", {})
    return speeds, "torch" if speeds else str(said.get("absent") or said.get("failed"))


def judge_speed(
    speeds: Mapping[str, float], baseline: Baseline | None, *, gpu_names: Sequence[str], words: str
) -> CheckResult:
    """Return whether every speed reaches its share of the baseline of this GPU model."""
    if not speeds:
        return unknown(NAME, words, threshold=_THRESHOLD)
    model = gpu_names[0] if len(set(gpu_names)) == 1 else None
    fleet = baseline.speeds.get(model, {}) if baseline and model else {}
    findings = [_judge(name, value, fleet.get(name)) for name, value in sorted(speeds.items())]
    return summarise(NAME, findings, threshold=_THRESHOLD, source=words)


def read_baseline(path: Path) -> Baseline | None:
    """Return the stored baseline; None when there is none.

    Raises:
        ConfigError: the file is damaged.
        StorageError: it cannot be read.
    """
    with storage_errors(path, "reading"):
        if not path.exists():
            return None
        text = path.read_bytes()
    return Baseline.from_json(text, source=str(path))


def store_baseline(path: Path, reports: Sequence[HealthReport], *, now: datetime) -> Baseline:
    """Return the medians over the reports by GPU model, written in the place of the models' earlier ones.

    Raises:
        EvidenceMissing: no report has speeds.
        StorageError: it cannot be written.
    """
    samples: dict[str, dict[str, list[float]]] = {}
    for report in reports:
        for model in set(report.facts.gpu_names):
            for name, value in report.facts.speeds.items():
                samples.setdefault(model, {}).setdefault(name, []).append(value)
    if not samples:
        raise EvidenceMissing(f"{path}: no speed was measured on {', '.join(report.node for report in reports)}")
    found = {model: {name: median(values) for name, values in of.items()} for model, of in samples.items()}
    try:
        before = read_baseline(path)
    except ConfigError:
        before = None  # a damaged one is what this replaces
    speeds = {**(before.speeds if before else {}), **found}
    baseline = Baseline(made_at=now, nodes=tuple(sorted(report.node for report in reports)), speeds=speeds)
    replace_file(path, baseline.to_json().encode())
    return baseline


def _judge(name: str, value: float, fleet: float | None) -> Finding:
    measured = f"{name} {value:.4g}"
    if fleet is None:
        return Finding("unknown", measured, f"{name}: no baseline for this GPU; `nexa health --speed --store-baseline`")
    is_slow = value < LEAST * fleet
    return Finding("fail" if is_slow else "ok", measured, f"{name} {value:.4g}, {value / fleet:.2f} of {fleet:.4g}")
