"""The policies a plan is judged by before anything is written. Pure: evidence in, verdict out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nexa_contracts.cost import CostEstimate
from nexa_contracts.env import holds_secret_text, looks_like_credential
from nexa_contracts.job import LaunchPlan
from nexa_contracts.run import CodeRecord, RunConfig
from nexa_contracts.sweep import SweepConfig
from nexa_infra.policies.verdict import Finding, Verdict, gather


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a launch before it happens."""

    configs: Sequence[RunConfig]
    """The distinct configs; for a sweep its base config is enough, as its axes were checked against it."""
    code: CodeRecord
    estimate: CostEstimate
    environment: Mapping[str, str]
    """The launcher's environment: where the values of named secrets are."""
    sweep: SweepConfig | None = None
    """The sweep the configs are points of; it is recorded with all its axes."""


def review(plan: LaunchPlan, evidence: Evidence) -> Verdict:
    """Return every finding of every policy about a plan."""
    return gather(
        _secrets_in_plan(plan),
        _secrets_in_records(evidence),
        _secrets_named(evidence),
        _code(evidence.code),
        _price(evidence.estimate),
    )


def _secrets_in_plan(plan: LaunchPlan) -> Iterator[Finding]:
    for file in plan.files:
        if holds_secret_text(file.text):
            yield Finding(
                "secrets",
                "refuse",
                f"{file.path} would hold a text of the shape of a credential",
                "pass it by name under `secrets`",
            )


def _secrets_in_records(evidence: Evidence) -> Iterator[Finding]:
    # What manifests hold beside the plan. One config stands for all: in what else they differ is an axis of the sweep.
    for contract in (*evidence.configs[:1], *([] if evidence.sweep is None else [evidence.sweep])):
        for key in dict.fromkeys(_find_secret_texts(contract.model_dump(mode="json"), "")):
            yield Finding(
                "secrets",
                "refuse",
                f"{key} holds a text of the shape of a credential",
                "pass it by name under `secrets`",
            )


def _find_secret_texts(value: Any, key: str) -> Iterator[str]:
    if isinstance(value, str):
        if holds_secret_text(value):
            yield key
    elif isinstance(value, dict):
        for name, inner in value.items():
            if holds_secret_text(name):
                yield f"a key of {key}" if key else "a key"
            else:
                yield from _find_secret_texts(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for inner in value:
            yield from _find_secret_texts(inner, key)


def _secrets_named(evidence: Evidence) -> Iterator[Finding]:
    names = {name for config in evidence.configs for name in config.secrets}
    for name in sorted(names):
        if not evidence.environment.get(name):
            yield Finding("secrets", "refuse", f"{name} is named under secrets but not set", f"export {name} first")
    for config in evidence.configs:
        for key, value in config.params.items():
            if isinstance(value, str) and looks_like_credential(key, value):
                yield Finding("secrets", "refuse", f"params.{key} looks like a credential", "name it under `secrets`")


def _code(code: CodeRecord) -> Iterator[Finding]:
    if code.left_out:
        shown = ", ".join(code.left_out[:5]) + (" …" if len(code.left_out) > 5 else "")
        yield Finding(
            "code",
            "warn",
            f"{len(code.left_out)} files are not in the code snapshot "
            f"(too large, secrets, or checkouts of their own): {shown}",
        )


def _price(estimate: CostEstimate) -> Iterator[Finding]:
    if estimate.rate.hourly is None:
        yield Finding(
            "cost",
            "warn",
            f"no price is known for {estimate.rate.resource}: the cost of this run is unknown",
            "name the GPU type under resources.gpu_type, or its price under `prices` in nexa.yaml",
        )
