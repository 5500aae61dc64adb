"""On a machine with an NVIDIA GPU."""

from __future__ import annotations

import os

import pytest

from nexa_contracts.clock import SystemClock
from nexa_contracts.health import HealthRequest
from nexa_infra.health.gpus import read_gpus
from nexa_infra.health.run import check_node
from nexa_infra.health.smi import read_smi
from nexa_infra.health.sources import Sources
from nexa_infra.health.speed import measure_speed
from nexa_infra.process import SystemRunner

pytestmark = pytest.mark.gpu


@pytest.fixture
def sources() -> Sources:
    return Sources(SystemRunner(), SystemClock(), dict(os.environ))


def test_a_real_gpu_answers_every_question_that_is_asked(sources: Sources) -> None:
    report = check_node(sources, HealthRequest(node="here", gpus=1, accept_unknown=("gpu_xid", "gpu_diagnosis")))
    assert [check for check in report.problems if check.name.startswith("gpu_")] == []
    assert report.facts.driver


def test_nvml_and_nvidia_smi_agree(sources: Sources) -> None:
    nvml, smi = read_gpus(sources), read_smi(sources)
    assert smi is not None
    assert nvml.readings.driver == smi.driver
    told = [
        [(gpu.uuid, gpu.name, gpu.pcie_width, gpu.ecc_uncorrected) for gpu in of.gpus] for of in (nvml.readings, smi)
    ]
    assert told[0] == told[1]


def test_a_real_gpu_is_measured(sources: Sources) -> None:
    speeds, words = measure_speed(sources)
    assert words == "torch"
    assert all(speeds[name] > 0 for name in ("h2d_gb_s", "matmul_tflops"))
