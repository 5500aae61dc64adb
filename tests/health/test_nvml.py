from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa_contracts.errors import CommandTimedOut
from nexa_contracts.health import CheckResult
from nexa_infra.health.checks.driver import judge_count, judge_driver
from nexa_infra.health.checks.gpu import judge_gpus
from nexa_infra.health.gpus import GpuAnswer, read_gpus
from nexa_infra.process import SystemRunner
from nexa_infra.testing.process import FakeRunner
from tests.health.health_made import make_sources, own, recorded
from tests.health.nvml_standin import READER, ROOT, SCENES, NvmlScenes


def ask(nvml: NvmlScenes, scene: str) -> GpuAnswer:
    return read_gpus(make_sources(FakeRunner().answer(own("nvml_reader"), nvml.read(scene))))


def judge(nvml: NvmlScenes, scene: str) -> dict[str, CheckResult]:
    answer = ask(nvml, scene)
    gpus = answer.readings.gpus
    checks = [judge_driver(answer), judge_count(answer, gpus, wanted=1, absent=())]
    checks += judge_gpus(gpus, source=answer.words, owner=lambda pid: " of alice (python)")
    return {check.name: check for check in checks}


@pytest.mark.parametrize("scene", sorted(SCENES))
def test_the_recordings_are_what_the_reader_prints(nvml: NvmlScenes, scene: str) -> None:
    assert json.loads(nvml.read(scene).stdout) == json.loads(recorded(f"nvml_{scene}.json"))


def test_healthy_gpus_pass_every_check(nvml: NvmlScenes) -> None:
    checks = judge(nvml, "healthy")
    assert {name: check.result for name, check in checks.items()} == dict.fromkeys(checks, "ok")
    assert checks["gpu_driver"].measured == "550.54.15"
    assert checks["gpu_count"].measured == "2"


@pytest.mark.parametrize(
    ("scene", "check", "result", "words"),
    [
        ("hot", "gpu_temperature", "fail", "GPU 1: 88 °C"),
        ("slowed", "gpu_throttle", "fail", "hardware slowdown, software thermal, hardware thermal"),
        ("capped", "gpu_throttle", "warn", "power cap"),
        ("ecc", "gpu_ecc", "fail", "3 uncorrected, remap pending"),
        ("no_ecc", "gpu_ecc", "unknown", "ecc_uncorrected: Not Supported"),
        ("volta", "gpu_ecc", "fail", "remap pending"),
        ("corrected", "gpu_ecc", "warn", "5000 corrected"),
        ("link_down", "gpu_nvlink", "fail", "GPU 1: 17 of 18 up"),
        ("no_links", "gpu_nvlink", "ok", ""),
        ("narrow", "gpu_pcie", "fail", "x8 of x16"),
        ("replays", "gpu_pcie", "warn", "x16, 12 replays"),
        ("busy", "gpu_leftovers", "fail", "process 1 of alice (python)"),
        ("left", "gpu_leftovers", "fail", "40.0 GiB in use and no process"),
        ("lost", "gpu_count", "fail", "GPU 1 is lost"),
        ("lost", "gpu_temperature", "unknown", "GPU 1: GPU is lost"),
        ("no_handle", "gpu_count", "fail", "GPU 0 is lost"),
        ("broken", "gpu_driver", "fail", "NVML: Unknown Error"),
        ("broken", "gpu_ecc", "unknown", "NVML: Unknown Error"),
    ],
)
def test_what_a_gpu_says_is_judged_with_its_words(
    nvml: NvmlScenes, scene: str, check: str, result: str, words: str
) -> None:
    found = judge(nvml, scene)[check]
    assert found.result == result
    assert words in found.evidence


def test_no_driver_is_no_gpu_and_not_a_failure_by_itself(nvml: NvmlScenes) -> None:
    answer = ask(nvml, "no_driver")
    assert answer.state == "absent"
    assert "Driver Not Loaded" in answer.words


def test_a_driver_that_never_answers_is_left_behind(nvml: NvmlScenes, tmp_path: Path) -> None:
    # Real where the library can be built; the verdict below holds for either.
    if nvml.library is not None:
        state = tmp_path / "state"
        state.write_text("hang 1\n")
        with pytest.raises(CommandTimedOut):
            SystemRunner().run(READER, timeout_s=3, cwd=ROOT, env=nvml.environment(state))
    answer = read_gpus(make_sources(FakeRunner().answer(own("nvml_reader"), CommandTimedOut("it hangs"))))
    check = judge_driver(answer)
    assert (check.result, check.measured) == ("fail", "no answer in 30 s")
    assert judge_count(answer, (), wanted=1, absent=()).result == "unknown"
    assert {found.result for found in judge_gpus((), source=answer.words, owner=str)} == {"unknown"}


@pytest.mark.parametrize("said", ["", "Segmentation fault\n", "[]\n", '{"readings": {"source": "nvml", "gpus": 3}}\n'])
def test_a_reader_that_prints_nonsense_is_a_failed_driver_with_its_words(said: str) -> None:
    answer = read_gpus(make_sources(FakeRunner().answer(own("nvml_reader"), said)))
    assert answer.state == "failed"
    assert answer.words.startswith("NVML: ")
