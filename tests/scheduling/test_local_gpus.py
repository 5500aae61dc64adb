from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from nexa_contracts.errors import ConfigError
from nexa_contracts.resources import Resources
from nexa_contracts.site import LocalLimits, SiteConfig
from nexa_contracts.states import JobState
from nexa_infra.testing.backend import launch, make_request
from tests.scheduling.local_machine import LocalMachine

SAYS_WHICH = (
    "import os, time; start = time.monotonic(); time.sleep(0.3); "
    "print(start, time.monotonic(), os.environ['CUDA_VISIBLE_DEVICES'])"
)
ONE_GPU = Resources(gpus_per_node=1, memory="64MiB")


@pytest.fixture
def two_gpus(machine: LocalMachine, tmp_path_factory: pytest.TempPathFactory) -> LocalMachine:
    """Put a program in the driver's place that lists two GPUs."""
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '0, GPU-aa, NVIDIA H200, 143771'\necho '1, GPU-bb, NVIDIA H200, 143771'\n")
    program.chmod(0o755)
    machine.environment["PATH"] = f"{folder}:{machine.environment['PATH']}"
    return machine


@pytest.fixture(autouse=True)
def _path(two_gpus: LocalMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    # check_fits asks the driver from this process.
    monkeypatch.setenv("PATH", two_gpus.environment["PATH"])


def test_no_gpu_is_given_to_two_jobs_at_a_time(two_gpus: LocalMachine, tmp_path: Path) -> None:
    request = make_request(tmp_path, *[SAYS_WHICH] * 4, resources=ONE_GPU)
    handles = launch(two_gpus.backend, tmp_path, request)
    assert two_gpus.wait_for_end(handles) == [JobState.SUCCEEDED] * 4
    spans = [next(two_gpus.backend.logs(handle)).split() for handle in handles]
    assert {gpu for _, _, gpu in spans} <= {"0", "1"}
    for (start, end, gpu), (other_start, other_end, other_gpu) in combinations(spans, 2):
        assert gpu != other_gpu or float(end) <= float(other_start) or float(other_end) <= float(start)


def test_a_job_that_asks_for_no_gpu_sees_none(two_gpus: LocalMachine, tmp_path: Path) -> None:
    code = "import os; print(repr(os.environ['CUDA_VISIBLE_DEVICES']))"
    (handle,) = launch(two_gpus.backend, tmp_path, make_request(tmp_path, code))
    assert two_gpus.wait_for_end([handle]) == [JobState.SUCCEEDED]
    assert list(two_gpus.backend.logs(handle)) == ["''"]


def test_a_config_cannot_take_gpus_that_were_not_given(two_gpus: LocalMachine, tmp_path: Path) -> None:
    code = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
    wishes = {"CUDA_VISIBLE_DEVICES": "0,1"}
    (handle,) = launch(two_gpus.backend, tmp_path, make_request(tmp_path, code, resources=ONE_GPU, environment=wishes))
    assert two_gpus.wait_for_end([handle]) == [JobState.SUCCEEDED]
    assert list(two_gpus.backend.logs(handle)) == ["0"]


def test_more_gpus_than_there_are_or_than_the_site_allows_are_refused(two_gpus: LocalMachine) -> None:
    three, two = Resources(gpus_per_node=3), Resources(gpus_per_node=2)
    with pytest.raises(ConfigError, match="asks for 3 GPUs, and jobs here may use 2"):
        two_gpus.backend.check_fits(three, SiteConfig())
    two_gpus.backend.check_fits(two, SiteConfig())
    with pytest.raises(ConfigError, match="asks for 2 GPUs, and jobs here may use 1"):
        two_gpus.backend.check_fits(two, SiteConfig(local=LocalLimits(gpus=1)))
