"""Policies judge a plan and never change it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nexa_contracts.cost import CostEstimate, Rate
from nexa_contracts.errors import PolicyRefused
from nexa_contracts.job import LaunchPlan, PlannedFile
from nexa_contracts.resources import Resources
from nexa_contracts.run import CodeRecord, RunConfig
from nexa_contracts.sweep import Axis, SweepConfig
from nexa_infra.policies.review import Evidence, review


def plan(text: str = "{}") -> LaunchPlan:
    return LaunchPlan(
        backend="fake", launcher="python", submission="run_20260102_030405_abcd", job_count=1, resources=Resources(),
        files=(PlannedFile(path="spec.json", text=text),), commands=(),
    )  # fmt: skip


def evidence(
    config: RunConfig,
    *,
    hourly: float | None = 1.0,
    left_out: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
) -> Evidence:
    rate = Rate(resource="cpu", unit="core_hour", hourly=hourly)
    return Evidence(
        configs=[config],
        code=CodeRecord(snapshot="0" * 64, snapshot_files=1, snapshot_bytes=1, left_out=left_out),
        estimate=CostEstimate(runs=1, hours_per_run=1.0, units_per_run=1, rate=rate, total=hourly),
        environment=environment or {},
    )


def test_a_clean_plan_has_no_finding() -> None:
    verdict = review(plan(), evidence(RunConfig(command=("true",))))
    assert verdict.findings == ()
    verdict.enforce()


@pytest.mark.parametrize(
    "text", ["hf_" + "a" * 30, "https://user:pass@host/x", "AKIA" + "A" * 16, "-----BEGIN RSA PRIVATE KEY-----"]
)
def test_a_credential_in_a_file_of_the_plan_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(PolicyRefused) as caught:
        review(plan(text), evidence(RunConfig(command=("true",)))).enforce()
    assert "spec.json" in str(caught.value)
    assert text not in str(caught.value)


def test_a_named_secret_without_a_value_is_refused() -> None:
    config = RunConfig(command=("true",), secrets=("API_TOKEN",))
    with pytest.raises(PolicyRefused, match="API_TOKEN is named under secrets but not set"):
        review(plan(), evidence(config)).enforce()
    review(plan(), evidence(config, environment={"API_TOKEN": "x"})).enforce()


def test_a_parameter_that_looks_like_a_credential_is_refused() -> None:
    config = RunConfig(command=("true",), params={"api_key": "x"})
    with pytest.raises(PolicyRefused, match=r"params\.api_key"):
        review(plan(), evidence(config)).enforce()


SECRET = "hf_" + "a" * 30


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (RunConfig(command=("true",), description=f"with {SECRET}"), "description"),
        (RunConfig(command=("true",), name=SECRET), "name"),
        (RunConfig(command=("true",), tags={"owner": SECRET}), "tags.owner"),
        (RunConfig(command=("true",), tags={SECRET: "me"}), "a key of tags"),
        (RunConfig(command=("true",), params={SECRET: 1}), "a key of params"),
    ],
)
def test_a_credential_anywhere_in_a_config_is_refused_and_not_repeated(config: RunConfig, key: str) -> None:
    with pytest.raises(PolicyRefused, match=f"secrets: {key} holds a text") as caught:
        review(plan(), evidence(config)).enforce()
    assert SECRET not in str(caught.value)


def test_a_credential_in_a_sweep_file_is_refused_though_no_trial_drew_it() -> None:
    config = RunConfig(command=("true",))
    drawn = SweepConfig(
        run=config, search="random", trials=1, description=SECRET, axes={"params.x": Axis(choice=("a", SECRET))}
    )
    with pytest.raises(PolicyRefused) as caught:
        review(plan(), replace(evidence(config), sweep=drawn)).enforce()
    assert [line.split(" holds")[0] for line in caught.value.findings] == [
        "secrets: description",
        "secrets: axes.params.x.choice",
    ]


def test_an_unknown_price_and_code_left_out_are_warnings() -> None:
    verdict = review(plan(), evidence(RunConfig(command=("true",)), hourly=None, left_out=("big.bin",)))
    assert [finding.policy for finding in verdict.warnings] == ["code", "cost"]
    verdict.enforce()
