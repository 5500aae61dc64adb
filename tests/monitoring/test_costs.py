"""Costs are measured time at a price with a source; an unknown price is never zero."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_contracts.cost import CostEstimate, Rate
from nexa_contracts.errors import ConfigError
from nexa_contracts.resources import Resources
from nexa_contracts.run import CodeRecord, EnvironmentRecord, RunConfig, RunManifest, RunOutcome
from nexa_contracts.site import SiteConfig, SitePrice
from nexa_contracts.states import JobState
from nexa_infra.monitoring.costs import CostedRun, cost_of_run, estimate_cost, summarize_costs, units_of
from nexa_infra.monitoring.prices import find_price, find_rate, load_prices, suggest_type

SITE = SiteConfig()
NOW = datetime(2026, 11, 2, tzinfo=UTC)


def make_manifest(estimate: CostEstimate) -> RunManifest:
    return RunManifest(
        run_id="run_20261101_000000_abcd",
        name="run",
        created_at=NOW,
        created_by="someone",
        project="demo",
        config=RunConfig(command=("true",)),
        config_source="run.yaml",
        backend="local",
        launcher="python",
        command=("true",),
        code=CodeRecord(snapshot="0" * 64, snapshot_files=1, snapshot_bytes=1),
        environment=EnvironmentRecord(hostname="here", platform="Linux", python="3.11", python_executable="python"),
        estimate=estimate,
    )


def make_outcome(seconds: float) -> RunOutcome:
    return RunOutcome(
        run_id="run_20261101_000000_abcd", state=JobState.SUCCEEDED, ended_at=NOW, attempts=2, seconds=seconds
    )


def make_costed(run_id: str, total: float | None, *, gpu_type: str | None = None, team: str | None = None) -> CostedRun:
    return CostedRun(
        run_id=run_id,
        name="tiny",
        created_at=NOW,
        sweep_id="sweep_a" if run_id < "c" else None,
        gpu_type=gpu_type,
        gpus=1 if gpu_type else 0,
        tags={} if team is None else {"team": team},
        hours=0.5,
        total=total,
    )


def test_every_price_has_a_source_and_a_date() -> None:
    for row in load_prices():
        assert row.hourly_usd > 0
        assert row.source
        assert row.provider
        assert datetime.strptime(row.as_of, "%Y-%m-%d") <= datetime(2027, 1, 1)


def test_no_name_stands_for_two_types() -> None:
    owners: dict[str, str] = {}
    for row in load_prices():
        for name in (row.gpu_type, *row.aliases):
            assert owners.setdefault(name.lower(), row.gpu_type) == row.gpu_type


@pytest.mark.parametrize(
    ("name", "gpu_type"),
    [
        ("h100", "H100-SXM"),
        ("NVIDIA H100 80GB HBM3", "H100-SXM"),
        ("nvidia h100 pcie", "H100-PCIe"),
        ("rtx 4090", "RTX-4090"),
        ("A100", "A100-80GB"),
    ],
)
def test_a_type_is_found_by_what_people_and_drivers_call_it(name: str, gpu_type: str) -> None:
    row = find_price(name)
    assert row is not None
    assert row.gpu_type == gpu_type


def test_an_unlisted_price_is_unknown_not_free() -> None:
    rate = find_rate("X9000", gpus=1, site=SITE)
    assert (rate.resource, rate.hourly) == ("X9000", None)
    assert estimate_cost(Resources(gpus_per_node=1, gpu_type="X9000"), site=SITE).total is None
    assert find_rate(None, gpus=1, site=SITE).hourly is None
    assert suggest_type("H10-SXM") == "H100-SXM"


def test_the_sites_price_goes_before_the_table_by_any_name() -> None:
    site = SiteConfig(
        prices={"h100": SitePrice(hourly=0.0, source="our own", as_of="2026-01-01"), "cpu": SitePrice(hourly=1)}
    )
    rate = find_rate("NVIDIA H100 80GB HBM3", gpus=8, site=site)
    assert (rate.hourly, rate.source, rate.as_of) == (0.0, "our own", "2026-01-01")
    assert find_rate(None, gpus=0, site=site).hourly == 1.0


def test_a_price_of_zero_is_free_and_known() -> None:
    site = SiteConfig(prices={"H100": SitePrice(hourly=0.0)})
    assert estimate_cost(Resources(gpus_per_node=1, gpu_type="H100-SXM"), site=site).total == 0.0


def test_without_gpus_cores_are_paid_for() -> None:
    estimate = estimate_cost(Resources(nodes=2, cpus=4, walltime="30m"), site=SITE)
    assert (estimate.units_per_run, estimate.hours_per_run, estimate.rate.unit) == (8, 0.5, "core_hour")
    assert estimate.rate.hourly is not None
    assert estimate.total == pytest.approx(4 * estimate.rate.hourly)


@given(nodes=st.integers(1, 64), gpus=st.integers(1, 8), runs=st.integers(0, 10_000), minutes=st.integers(1, 10_000))
def test_an_estimate_is_runs_times_units_times_hours_times_rate(nodes: int, gpus: int, runs: int, minutes: int) -> None:
    resources = Resources(nodes=nodes, gpus_per_node=gpus, gpu_type="H100-SXM", walltime=f"{minutes}m")
    estimate = estimate_cost(resources, runs=runs, site=SITE)
    assert units_of(resources) == nodes * gpus
    assert estimate.rate.hourly is not None
    assert estimate.total == pytest.approx(runs * resources.gpu_hours * estimate.rate.hourly)


def test_a_run_costs_its_measured_time_at_the_frozen_rate() -> None:
    rate = Rate(resource="H100-SXM", unit="gpu_hour", hourly=4.0, source="then", as_of="2026-01-01")
    frozen = CostEstimate(runs=1, hours_per_run=2.0, units_per_run=8, rate=rate, total=64.0)
    cost = cost_of_run(make_manifest(frozen), make_outcome(1800.0), now=NOW)
    assert (cost.breakdown.compute_hours, cost.total, cost.estimate, cost.rate) == (4.0, 16.0, 64.0, rate)
    assert (cost.seconds, cost.units, cost.created_at) == (1800.0, 8, NOW)


def test_a_run_at_an_unknown_rate_has_hours_and_no_total() -> None:
    frozen = CostEstimate(
        runs=1, hours_per_run=2.0, units_per_run=2, rate=Rate(resource="X", unit="gpu_hour", hourly=None), total=None
    )
    cost = cost_of_run(make_manifest(frozen), make_outcome(3600.0), now=NOW)
    assert (cost.breakdown.compute_hours, cost.total) == (2.0, None)


def test_sums_leave_unknown_runs_out_and_say_so() -> None:
    (row,) = summarize_costs([make_costed("a", 1.5), make_costed("b", None), make_costed("b2", 2.0)], by="sweep")
    assert (row.group, row.runs, row.hours, row.known_total, row.unknown_runs) == ("sweep_a", 3, 1.5, 3.5, 1)


def test_runs_are_summed_by_what_was_asked() -> None:
    runs = [
        make_costed("a", 1.0, gpu_type="H100-SXM", team="x"),
        make_costed("b", 5.0, team="y"),
        make_costed("c", 2.0, gpu_type="H100-SXM", team="x"),
    ]

    def totals(by: str) -> list[tuple[str, float]]:
        return [(row.group, row.known_total) for row in summarize_costs(runs, by=by)]

    assert totals("sweep") == [("sweep_a", 6.0), ("-", 2.0)]
    assert totals("gpu") == [("cpu", 5.0), ("H100-SXM", 3.0)]
    assert totals("month") == [("2026-11", 8.0)]
    assert totals("tag:team") == [("y", 5.0), ("x", 3.0)]
    assert totals("name") == [("tiny", 8.0)]
    assert totals("run") == [("b", 5.0), ("c", 2.0), ("a", 1.0)]


@given(totals=st.lists(st.none() | st.floats(0, 1e6), max_size=30))
def test_groups_together_hold_every_run_once(totals: list[float | None]) -> None:
    runs = [make_costed(f"{'ac'[number % 2]}{number}", total) for number, total in enumerate(totals)]
    rows = summarize_costs(runs, by="sweep")
    assert sum(row.runs for row in rows) == len(runs)
    known = [total for total in totals if total is not None]
    assert math.isclose(sum(row.known_total for row in rows), sum(known), rel_tol=1e-9, abs_tol=1e-9)
    assert sum(row.unknown_runs for row in rows) == len(runs) - len(known)


@pytest.mark.parametrize("by", ["", "colour", "tag:"])
def test_an_unknown_grouping_lists_the_known_ones(by: str) -> None:
    with pytest.raises(ConfigError, match="allowed: sweep, month, gpu, name, run, tag, tag:KEY"):
        summarize_costs([make_costed("a", 1.0)], by=by)
