from __future__ import annotations

from pathlib import Path

import pytest

from nexa_contracts.errors import EvidenceMissing
from nexa_contracts.health import Baseline, NodeFacts
from nexa_infra.health.speed import judge_speed, measure_speed, read_baseline, store_baseline
from nexa_infra.testing.process import FakeRunner
from tests.health.health_made import NOW, make_report, make_sources, own

FLEET = Baseline(made_at=NOW, speeds={"NVIDIA H100": {"matmul_tflops": 700.0, "h2d_gb_s": 50.0}})


@pytest.mark.parametrize(
    ("speeds", "result"),
    [
        ({"matmul_tflops": 700.0, "h2d_gb_s": 55.0}, "ok"),
        ({"matmul_tflops": 665.0, "h2d_gb_s": 50.0}, "ok"),
        ({"matmul_tflops": 664.0, "h2d_gb_s": 50.0}, "fail"),
        ({"matmul_tflops": 700.0, "d2h_gb_s": 50.0}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_a_gpu_is_held_to_its_share_of_the_fleets_baseline(speeds: dict[str, float], result: str) -> None:
    assert judge_speed(speeds, FLEET, gpu_names=["NVIDIA H100"], words="torch").result == result


def test_without_a_baseline_of_this_model_nothing_is_called_fast_enough() -> None:
    check = judge_speed({"matmul_tflops": 1.0}, FLEET, gpu_names=["NVIDIA A100"], words="torch")
    assert check.result == "unknown"
    assert "--store-baseline" in check.evidence
    assert judge_speed({"matmul_tflops": 1.0}, None, gpu_names=["NVIDIA H100"], words="torch").result == "unknown"


def test_speeds_that_cannot_be_measured_are_unknown_with_the_reason() -> None:
    runner = FakeRunner().answer(own("gpu_speed"), '{"absent": "torch sees no GPU"}\n')
    assert measure_speed(make_sources(runner)) == ({}, "torch sees no GPU")
    assert measure_speed(make_sources(FakeRunner().answer(own("gpu_speed"), "Killed\n")))[0] == {}


def test_the_baseline_is_the_median_of_the_nodes_and_keeps_other_models(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    assert read_baseline(path) is None
    reports = [
        make_report(f"n{n}", facts=NodeFacts(gpu_names=("NVIDIA A100",) * 8, speeds={"matmul_tflops": speed}))
        for n, speed in enumerate((250.0, 260.0, 90.0))
    ]
    path.write_text(FLEET.to_json())
    stored = store_baseline(path, reports, now=NOW)
    assert stored == read_baseline(path)
    assert stored.speeds["NVIDIA A100"] == {"matmul_tflops": 250.0}
    assert stored.speeds["NVIDIA H100"] == FLEET.speeds["NVIDIA H100"]
    with pytest.raises(EvidenceMissing, match="no speed was measured on n1"):
        store_baseline(path, [make_report("n1")], now=NOW)
