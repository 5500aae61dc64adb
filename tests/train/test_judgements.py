"""The pure parts: divergence, evaluation, arithmetic, the split, the config as YAML."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexa_contracts.config import load_config
from nexa_contracts.run import RunConfig
from nexa_contracts.sweep import SweepConfig
from nexa_contracts.yaml_text import parse_yaml
from nexa_train.data import is_held_out
from nexa_train.divergence import DivergenceJudge
from nexa_train.evaluation import EvaluationReading, read_evaluation
from nexa_train.final_model import render_yaml
from nexa_train.throughput import PEAK_TFLOPS_BF16, ModelCost, estimate_mfu, find_peak_tflops

ROOT = Path(__file__).parents[2] / "nexa_train"
losses = st.lists(st.floats(min_value=0.01, max_value=10), min_size=1, max_size=40)


@given(losses, st.sampled_from([math.nan, math.inf, -math.inf]))
def test_a_loss_that_is_not_finite_is_always_seen(before: list[float], bad: float) -> None:
    judge = DivergenceJudge(factor=None)
    assert not any(judge.judge(step, loss) for step, loss in enumerate(before))
    assert f"at step {len(before)}" in (judge.judge(len(before), bad) or "")


@given(losses, st.floats(min_value=1.1, max_value=8))
def test_a_falling_loss_never_counts_as_divergence(values: list[float], factor: float) -> None:
    judge = DivergenceJudge(factor)
    assert not any(judge.judge(step, loss) for step, loss in enumerate(sorted(values, reverse=True)))


def test_one_spike_is_forgiven_and_a_lasting_rise_is_not() -> None:
    judge = DivergenceJudge(factor=2.0)
    assert not any(judge.judge(step, loss) for step, loss in enumerate([3.0, 2.0, 1.0, 4.0, 1.0, 1.0]))
    assert any(judge.judge(step, 9.0) for step in range(6, 16))


@given(st.floats(min_value=0, max_value=20), st.floats(min_value=0.5, max_value=8))
def test_bits_per_byte_do_not_depend_on_the_vocabulary(loss_per_byte: float, bytes_per_token: float) -> None:
    logs = {"eval_loss": loss_per_byte * bytes_per_token, "eval_runtime": 1.0}
    metrics = read_evaluation(logs, EvaluationReading(is_likelihood=True, bytes_per_token=bytes_per_token))
    assert metrics["eval_bits_per_byte"] == pytest.approx(loss_per_byte / math.log(2))
    assert metrics.keys() == {"eval_loss", "eval_perplexity", "eval_bits_per_byte"}


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA H200", 989.4),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA A10G", None),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("Some Other Card", None),
    ],
)
def test_the_peak_of_a_gpu_is_found_by_its_name_or_unknown(name: str, tflops: float | None) -> None:
    assert find_peak_tflops(name) == tflops


def test_utilisation_of_an_unknown_peak_is_unknown_not_zero() -> None:
    cost = ModelCost(flops_per_token=6e9, parameters=10**9, trained_parameters=10**9)
    assert estimate_mfu(50_000, cost, peak_tflops=None, gpus=1) is None
    assert estimate_mfu(50_000, cost, peak_tflops=PEAK_TFLOPS_BF16["H100"], gpus=1) == pytest.approx(0.3032, abs=1e-4)


@settings(max_examples=20)
@given(st.lists(st.text(), min_size=200, max_size=200, unique=True), st.floats(min_value=0, max_value=0.5))
def test_a_row_is_held_out_by_what_it_is_alone(texts: list[str], fraction: float) -> None:
    rows: list[dict[str, Any]] = [{"text": text} for text in texts]
    held_out = [is_held_out(row, fraction) for row in rows]
    assert held_out == [is_held_out(dict(row), fraction) for row in rows]
    assert abs(sum(held_out) / 200 - fraction) < 0.2
    assert all(is_held_out(row, 0.5) for row, out in zip(rows, held_out, strict=True) if out)


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_config_is_valid_and_survives_being_written(path: Path) -> None:
    config = load_config(path, RunConfig)
    written = parse_yaml(render_yaml(config), source="written").data
    assert RunConfig.from_json(json.dumps(written), source="written") == config


@pytest.mark.parametrize("path", sorted(ROOT.glob("sweeps/*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_sweep_is_valid_and_names_a_base_that_is_there(path: Path) -> None:
    sweep = load_config(path, SweepConfig)
    assert sweep.base is not None
    assert load_config(path.parent / sweep.base, RunConfig).train is not None
