from __future__ import annotations

import pytest

from nexa_contracts.errors import CommandTimedOut, ExternalError, UnreadableReply
from nexa_infra.process import Completed
from nexa_infra.scheduling.machine import Gpu, parse_gpus, read_machine
from nexa_infra.testing.process import FakeRunner

H200 = Gpu(index=0, uuid="GPU-5b1d", name="NVIDIA H200", memory_mib=143771)


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        ("", ()),
        ("0, GPU-5b1d, NVIDIA H200, 143771\n", (H200,)),
        ("1, GPU-b, A, 1\n0, GPU-5b1d, NVIDIA H200, 143771\n", (H200, Gpu(1, "GPU-b", "A", 1))),
        ("0, GPU-c, NVIDIA GB10, [N/A]\n", (Gpu(0, "GPU-c", "NVIDIA GB10", None),)),
        ("0, GPU-d, Odd, Name, 8\n", (Gpu(0, "GPU-d", "Odd, Name", 8),)),
    ],
)
def test_replies_of_the_driver_are_read(text: str, gpus: tuple[Gpu, ...]) -> None:
    assert parse_gpus(text) == gpus


@pytest.mark.parametrize("text", ["Unable to determine the device handle", "x, GPU-a, A, 1", "0, GPU-a"])
def test_a_reply_that_says_something_else_is_not_read_as_no_gpus(text: str) -> None:
    with pytest.raises(UnreadableReply, match="nvidia-smi"):
        parse_gpus(text)


def test_a_machine_without_a_driver_has_no_gpus() -> None:
    machine = read_machine(FakeRunner())
    assert machine.gpus == ()
    assert machine.cpus >= 1
    assert machine.memory_bytes > 2**20


@pytest.mark.parametrize("reply", [Completed(6), Completed(0, stdout="No devices were found\n")])
def test_a_driver_without_devices_is_no_error(reply: Completed) -> None:
    assert read_machine(FakeRunner().answer(["nvidia-smi"], reply)).gpus == ()


@pytest.mark.parametrize("answer", [Completed(9, stderr="NVML: Driver mismatch"), CommandTimedOut("still running")])
def test_a_driver_that_fails_is_an_error_with_what_to_do(answer: Completed | CommandTimedOut) -> None:
    with pytest.raises(ExternalError) as caught:
        read_machine(FakeRunner().answer(["nvidia-smi"], answer))
    assert "nvidia-smi" in str(caught.value.hint)
