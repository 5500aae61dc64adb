from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nexa_contracts.base import digest_json
from nexa_contracts.cost import CostBreakdown, CostManifest, Rate
from nexa_contracts.errors import ConfigError, UnsupportedSchema
from nexa_contracts.resources import Resources
from nexa_contracts.run import RunConfig, WorkResult

SCALARS = (
    st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9)
)
CONFIGS = st.builds(
    RunConfig,
    name=st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?", fullmatch=True),
    description=st.text(max_size=40),
    command=st.just(("python", "x.py")),
    params=st.dictionaries(st.text(max_size=8), SCALARS, max_size=4),
    tags=st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3),
    max_retries=st.integers(0, 1000),
    resources=st.builds(Resources, nodes=st.integers(1, 64), gpus_per_node=st.integers(0, 8)),
)
COST = CostManifest(
    run_id="run_20260102_030405_k3f9",
    created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    breakdown=CostBreakdown(compute_hours=1.5),
    rate=Rate(resource="H100-SXM", unit="gpu_hour", hourly=None),
    seconds=5400,
    units=1,
    total=None,
)


@given(CONFIGS)
def test_a_contract_reads_back_from_its_json_as_itself(config: RunConfig) -> None:
    again = RunConfig.from_json(config.to_json(), source="f")
    assert again == config
    assert again.to_json() == config.to_json()
    assert again.digest() == config.digest()
    assert {key: type(value) for key, value in again.params.items()} == {
        key: type(value) for key, value in config.params.items()
    }


@given(CONFIGS, CONFIGS)
def test_equal_digests_mean_equal_contracts(one: RunConfig, other: RunConfig) -> None:
    assert (one.digest() == other.digest()) == (one.to_json() == other.to_json())


@given(st.dictionaries(st.text(max_size=5), SCALARS, max_size=5))
def test_a_digest_does_not_depend_on_the_order_of_keys(value: dict[str, object]) -> None:
    assert digest_json(value) == digest_json(dict(reversed(value.items())))


def test_a_cost_manifest_keeps_unknown_apart_from_zero() -> None:
    data = json.loads(COST.to_json())
    assert data["total"] is None
    assert data["breakdown"] == {"compute_hours": 1.5, "storage_gb_month": None, "egress_gb": None}
    assert data["created_at"] == "2026-01-02T03:04:05Z"
    assert CostManifest.from_json(COST.to_json(), source="f") == COST


def test_a_contract_of_a_newer_version_is_refused_whatever_else_it_holds() -> None:
    with pytest.raises(UnsupportedSchema) as caught:
        RunConfig.from_json('{"schema_version": 2, "new_field": 1}', source="run.json")
    assert str(caught.value) == "run.json: schema_version 2; this version reads up to 1; upgrade nexa-compute"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "f: not valid JSON: "),
        (b"\xff", "f: not valid JSON: "),
        (b"{", "f: not valid JSON: "),
        (b"[" * 100_000, "f: not valid JSON: "),
        (b"[1]", "f: Input should be an object"),
        (b'{"command": ["a"], "schema_version": 0}', "f: schema_version: "),
        (b'{"command": ["a"], "schema_version": "1"}', "f: schema_version: "),
        (b'{"command": ["a"], "unknown": 1}', "f: unknown: Extra inputs are not permitted"),
        (b'{"command": ["a"], "max_retries": 1.0}', "f: max_retries: "),
        (b'{"command": ["a"], "params": {"x": NaN}}', "f: params.x"),
    ],
)
def test_what_is_not_the_contract_is_one_line_with_its_source(text: bytes, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_json(text, source="f")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_contract_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        COST.total = 3.0  # type: ignore[misc]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_that_is_no_number_does_not_enter_a_record(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        WorkResult(metrics={"loss": value})
