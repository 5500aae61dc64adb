from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_infra.scheduling.stacks import pick_stack
from nexa_infra.scheduling.stalls import Progress, StallWatch, StepReader
from nexa_infra.storage.run_dir import RunDir
from nexa_infra.testing.clock import FakeClock


def beat(run_dir: RunDir, **values: object) -> None:
    run_dir.heartbeat.write_text(json.dumps(values))


def say(run_dir: RunDir, **values: object) -> None:
    with run_dir.metrics.open("a") as stream:
        stream.write(json.dumps(values) + "\n")


def test_steps_come_from_the_heartbeat_and_the_metrics(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    reader = StepReader(run_dir, 2)
    assert reader.read() == Progress()
    say(run_dir, step=1)
    assert reader.read().step == 1
    beat(run_dir, attempt=2, step=3, max_steps=9, pid=17, batches=4)
    assert reader.read() == Progress(step=3, batches=4, max_steps=9, pid=17)
    say(run_dir, attempt=2, step=5)
    assert reader.read().step == 5


def test_what_another_attempt_left_or_still_says_does_not_count(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    say(run_dir, step=70)
    beat(run_dir, step=71)
    reader = StepReader(run_dir, 2)
    assert reader.read() == Progress()
    beat(run_dir, step=90, attempt=1)  # of one thought dead
    say(run_dir, step=91, attempt=1)
    assert reader.read() == Progress()
    say(run_dir, step=1)
    assert reader.read().step == 1


def test_of_an_attempt_that_is_over_only_what_names_it_counts(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    say(run_dir, step=4, attempt=1)
    say(run_dir, step=2, attempt=2)
    say(run_dir, step=9)
    assert StepReader(run_dir, 1, is_over=True).read().step == 4


@pytest.mark.parametrize("text", ["", "{", "[]", '{"step": "three"}', '{"step": 1e400}', '{"step": null}'])
def test_what_cannot_be_read_says_nothing(tmp_path: Path, text: str) -> None:
    run_dir = RunDir(tmp_path)
    reader = StepReader(run_dir, 1)
    run_dir.heartbeat.write_text(text)
    run_dir.metrics.write_text(text + "\n")
    assert reader.read().step is None


class Steps(StepReader):
    """Steps as a test has them."""

    def __init__(self) -> None:
        self.now = Progress()

    def read(self) -> Progress:
        return self.now


def watch(stall_s: float | None) -> tuple[StallWatch, Steps, FakeClock]:
    clock, steps = FakeClock(), Steps()
    return StallWatch(steps, stall_s=stall_s, clock=clock), steps, clock


def pass_time(stalls: StallWatch, clock: FakeClock, seconds: float) -> bool:
    end_s = clock.monotonic_s() + seconds
    while clock.monotonic_s() < end_s:
        clock.advance(max(0.001, min(stalls.next_look_s, end_s) - clock.monotonic_s()))
        if stalls.is_stalled():
            return True
    return False


@given(st.floats(1.0, 10_000.0), st.lists(st.floats(0.01, 0.9), max_size=6))
def test_a_program_is_stalled_once_it_made_no_step_for_the_time_and_not_before(
    stall_s: float, shares: list[float]
) -> None:
    stalls, steps, clock = watch(stall_s)
    for number, share in enumerate(shares):
        assert not pass_time(stalls, clock, stall_s * share)
        steps.now = Progress(step=number)
    assert not pass_time(stalls, clock, stall_s * 0.9)
    assert pass_time(stalls, clock, stall_s * 0.2)


def test_batches_of_an_evaluation_are_progress_and_a_beat_alone_is_none() -> None:
    stalls, steps, clock = watch(100.0)
    for number in range(5):
        steps.now = Progress(step=3, batches=number, pid=number)
        assert not pass_time(stalls, clock, 90.0)
    steps.now = Progress(step=3, batches=4, pid=99)
    assert pass_time(stalls, clock, 20.0)


def test_after_the_last_step_nothing_is_a_stall() -> None:
    stalls, steps, clock = watch(10.0)
    steps.now = Progress(step=30, max_steps=30)
    assert not pass_time(stalls, clock, 1_000.0)


def test_without_a_longest_time_it_never_looks() -> None:
    stalls, _, clock = watch(None)
    assert stalls.next_look_s == float("inf")
    clock.advance(1e9)
    assert not stalls.is_stalled()


def test_a_machine_that_slept_is_no_program_that_did() -> None:
    stalls, _, clock = watch(10.0)
    clock.advance(3_600.0)
    assert not stalls.is_stalled()
    assert pass_time(stalls, clock, 11.0)


PY_SPY = """\
Process 7: python train.py
Python v3.11.2

Thread 9 (idle): "worker"
    wait (threading.py:320)
Thread 7 (active): "MainThread"
    all_reduce (distributed.py:10)
    step (train.py:4)
    <module> (train.py:9)
""".splitlines()
FAULTHANDLER = """\
Thread 0x00007f01 (most recent call first):
  File "threading.py", line 320 in wait

Current thread 0x00007f02 (most recent call first):
  File "distributed.py", line 10 in all_reduce
  File "train.py", line 4 in step
""".splitlines()


def test_the_main_threads_innermost_frames_are_the_evidence() -> None:
    assert pick_stack(PY_SPY) == [
        'Thread 7 (active): "MainThread"', "all_reduce (distributed.py:10)", "step (train.py:4)",
        "<module> (train.py:9)",
    ]  # fmt: skip
    assert pick_stack(FAULTHANDLER)[1:] == [
        'File "distributed.py", line 10 in all_reduce', 'File "train.py", line 4 in step',
    ]  # fmt: skip
    assert pick_stack(FAULTHANDLER[:2])[1] == 'File "threading.py", line 320 in wait'
    assert pick_stack(["no stack here"]) == []
