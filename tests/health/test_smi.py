from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from nexa_contracts.errors import CommandMissing, CommandTimedOut, UnreadableReply
from nexa_contracts.health import GpuProcess, GpuReadings
from nexa_infra.health.checks.gpu import judge_gpus
from nexa_infra.health.gpus import assigned, read_gpus
from nexa_infra.health.smi import read_smi
from nexa_infra.process import Call, Completed, SystemRunner
from nexa_infra.testing.process import FakeRunner
from tests.health.health_made import make_gpu, make_sources, own, recorded

ABSENT = '{"absent": "the package nvidia-ml-py is not installed"}\n'


def smi(query: str, *, rows: str = "", links: str = "", apps: str = "") -> FakeRunner:
    runner = FakeRunner().answer(("nvidia-smi", "nvlink"), links).answer(own("nvml_reader"), ABSENT)

    def answer(call: Call) -> Completed:
        word = call.argv[1]
        said = rows if word.startswith("--query-remapped") else apps if word.startswith("--query-compute") else query
        return Completed(0, said)

    return runner.answer(("nvidia-smi",), answer)


def read(runner: FakeRunner) -> GpuReadings:
    found = read_smi(make_sources(runner))
    assert found is not None
    return found


def test_nvidia_smi_stands_in_for_nvml() -> None:
    uuid = "GPU-6f1e4bd5-0c1c-4d9a-9f38-0a1b2c3d4e5f"
    runner = smi(
        recorded("smi_gpus.csv"),
        rows=recorded("smi_rows.csv"),
        links=recorded("smi_nvlink.txt"),
        apps=f"{uuid}, 4242, 70000\n",
    )
    answer = read_gpus(make_sources(runner))
    assert answer.state == "answered"
    assert (answer.readings.source, answer.readings.driver) == ("nvidia-smi", "550.54.15")
    first, second = answer.readings.gpus
    assert first.name == "NVIDIA H100 80GB HBM3"
    assert first.processes == (GpuProcess(pid=4242, memory_bytes=70000 * 2**20),)
    assert (first.remap_pending, first.remap_failed) == (False, False)
    assert (second.nvlinks, second.nvlinks_up) == (2, 1)
    checks = {
        check.name: check.result for check in judge_gpus((first, second), source="nvidia-smi", owner=lambda _: "")
    }
    assert checks["gpu_nvlink"] == "fail"
    assert checks["gpu_leftovers"] == "fail"
    assert checks["gpu_ecc"] == "ok"


def test_what_prints_na_is_unknown_with_that_word() -> None:
    readings = read(smi(recorded("smi_consumer.csv")))
    (gpu,) = readings.gpus
    assert gpu.ecc_uncorrected is None
    assert gpu.missing["ecc_uncorrected"] == "nvidia-smi says [N/A]"
    checks = {check.name: check for check in judge_gpus(readings.gpus, source="nvidia-smi", owner=lambda _: "")}
    assert checks["gpu_ecc"].result == "unknown"
    assert "[N/A]" in checks["gpu_ecc"].evidence


def test_a_field_that_an_older_driver_does_not_know_is_asked_by_its_older_name_or_left_out() -> None:
    def answer(call: Call) -> Completed:
        asked = call.argv[1].partition("=")[2].split(",")
        for name in ("clocks_event_reasons.active", "retired_pages.pending"):
            if name in asked:
                return Completed(2, f'Field "{name}" is not a valid field to query.\n')
        values = {"index": "0", "uuid": "GPU-1", "name": "Tesla V100", "clocks_throttle_reasons.active": "0x4"}
        return Completed(0, ", ".join(values.get(name, "1") for name in asked) + "\n")

    (gpu,) = read(FakeRunner().answer(("nvidia-smi",), answer)).gpus
    assert gpu.throttle_mask == 4
    assert gpu.name == "Tesla V100"


@pytest.mark.parametrize(("status", "text"), [(6, ""), (0, "No devices were found\n")])
def test_a_driver_without_devices_has_no_gpus(status: int, text: str) -> None:
    assert read(FakeRunner().answer(("nvidia-smi",), Completed(status, text))).gpus == ()


def test_a_driver_that_is_not_loaded_is_absent_and_one_that_fails_has_failed() -> None:
    runner = FakeRunner().answer(own("nvml_reader"), ABSENT)
    runner.answer(("nvidia-smi",), Completed(9, "NVIDIA-SMI has failed because it couldn't communicate\n"))
    assert read_gpus(make_sources(runner)).state == "absent"
    lost = "Unable to determine the device handle for GPU0000:3B:00.0: GPU is lost.  Reboot the system\n"
    answer = read_gpus(make_sources(runner.answer(("nvidia-smi",), Completed(15, lost))))
    assert answer.state == "failed"
    assert "GPU is lost" in answer.words


def test_a_tool_that_hangs_is_silent_and_one_that_is_missing_absent() -> None:
    runner = FakeRunner().answer(own("nvml_reader"), ABSENT)
    assert read_gpus(make_sources(runner)).state == "absent"
    assert read_gpus(make_sources(runner.answer(("nvidia-smi",), CommandTimedOut("hangs")))).state == "silent"


def test_a_program_on_path_that_hangs_is_ended(tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nsleep 600\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(CommandTimedOut):
        SystemRunner().run([str(program)], timeout_s=0.3, env=dict(os.environ))


def test_nonsense_is_unreadable_and_not_a_gpu() -> None:
    with pytest.raises(UnreadableReply, match="expected 14 fields"):
        read(smi("Segmentation fault\n"))


def test_a_question_that_gets_no_answer_leaves_the_others() -> None:
    runner = smi(recorded("smi_gpus.csv"), rows=recorded("smi_rows.csv"))
    runner.answer(("nvidia-smi", "nvlink"), CommandMissing("no nvlink here"))
    gpu = read(runner).gpus[0]
    assert (gpu.nvlinks, gpu.missing["nvlinks"]) == (None, "no nvlink here")
    assert gpu.ecc_uncorrected == 0


def test_only_assigned_gpus_are_looked_at_and_one_that_is_not_there_is_named() -> None:
    readings = GpuReadings(source="nvml", gpus=tuple(make_gpu(index=n, uuid=f"GPU-{n}abc") for n in range(4)))
    found, absent = assigned(readings, "2, GPU-3a,7")
    assert ([gpu.index for gpu in found], absent) == ([2, 3], ("7",))
    assert assigned(readings, None) == (readings.gpus, ())
    assert assigned(readings, "") == ((), ())
