from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from nexa_contracts.states import JobState
from nexa_infra.scheduling.ending import Ending, Leave, judge_ending
from nexa_infra.scheduling.evidence import HIDDEN, find_error_line, pick_evidence, read_tail
from nexa_infra.scheduling.records import Failure

TRACEBACK = [
    "step 10 loss 2.5",
    "Traceback (most recent call last):",
    '  File "train.py", line 3, in <module>',
    "    train()",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
]
CRASH = [*TRACEBACK[:-1], "ValueError: bad shape"]


def judge(returncode: int, **known: Any) -> tuple[JobState, str | None, str]:
    state, failure = judge_ending(Ending(returncode=returncode, **({"walltime_s": 60.0} | known)))
    return state, None if failure is None else failure.kind, "" if failure is None else failure.message


@pytest.mark.parametrize(
    ("returncode", "known", "state", "kind", "message"),
    [
        (0, {}, "SUCCEEDED", None, ""),
        (0, {"leave": Leave.ASKED}, "SUCCEEDED", None, ""),
        (75, {}, "PREEMPTED", None, ""),
        (75, {"leave": Leave.ASKED}, "PREEMPTED", None, ""),
        (75, {"leave": Leave.CANCELLED}, "CANCELLED", "cancelled", "cancelled on request"),
        (0, {"leave": Leave.CANCELLED}, "CANCELLED", "cancelled", "cancelled on request"),
        (-15, {"leave": Leave.TIMED_OUT}, "TIMED_OUT", "timed_out", "left when asked"),
        (-9, {"leave": Leave.TIMED_OUT}, "TIMED_OUT", "timed_out", "was killed"),
        (75, {"leave": Leave.TIMED_OUT}, "TIMED_OUT", "timed_out", "it saved a checkpoint"),
        (0, {"leave": Leave.TIMED_OUT}, "TIMED_OUT", "timed_out", "left when asked"),
        (0, {"leave": Leave.TIMED_OUT, "has_finished": True}, "SUCCEEDED", None, ""),
        (75, {"leave": Leave.PREEMPTED}, "PREEMPTED", None, ""),
        (-15, {"leave": Leave.PREEMPTED}, "PREEMPTED", "preempted", "ended by SIGTERM"),
        (1, {"leave": Leave.PREEMPTED, "lines": CRASH}, "PREEMPTED", "preempted", "ended with status 1"),
        (0, {"leave": Leave.PREEMPTED}, "SUCCEEDED", None, ""),
        (65, {"leave": Leave.PREEMPTED}, "FAILED", "diverged", "status 65"),
        (-9, {"stall": Failure("stalled", "no step for 5s")}, "FAILED", "stalled", "no step for 5s"),
        (75, {"stall": Failure("stalled", "no step for 5s")}, "FAILED", "stalled", "no step for 5s"),
        (65, {}, "FAILED", "diverged", "status 65"),
        (2, {}, "FAILED", "bad_request", "status 2"),
        (2, {"lines": ["usage: p", "p: error: no --foo"]}, "FAILED", "bad_request", "p: error: no --foo (status 2)"),
        (78, {"lines": CRASH}, "FAILED", "bad_request", "ValueError: bad shape"),
        (1, {"lines": CRASH}, "FAILED", "crash", "ValueError: bad shape"),
        (7, {}, "FAILED", "crash", "ended with status 7"),
        (1, {"lines": ["OSError: [Errno 28] No space left on device: 'x'"]}, "FAILED", "storage", "Errno 28"),
        (1, {"lines": ["OSError: [Errno 30] Read-only file system: 'x'"]}, "FAILED", "storage", "Errno 30"),
        (1, {"disk": "scratch /s: no space left on device"}, "FAILED", "storage", "status 1; scratch /s: no space"),
        (1, {"disk": "scratch /s: no space left on device", "lines": CRASH}, "FAILED", "crash", "ValueError"),
        (1, {"said": Failure("storage", "scratch /s: full"), "lines": CRASH}, "FAILED", "storage", "scratch /s: full"),
        (-11, {}, "FAILED", "crash", "SIGSEGV"),
        (-9, {}, "FAILED", "killed", "SIGKILL, which came from outside"),
        (-9, {"oom_kills": 0}, "FAILED", "killed", "SIGKILL"),
        (-9, {"oom_kills": 1}, "OUT_OF_MEMORY", "out_of_memory", "1 out-of-memory kills"),
        (137, {"oom_kills": 2}, "OUT_OF_MEMORY", "out_of_memory", "2 out-of-memory kills"),
        (1, {"oom_kills": 2, "lines": CRASH}, "FAILED", "crash", "ValueError"),
        (1, {"lines": TRACEBACK}, "OUT_OF_MEMORY", "out_of_memory", "CUDA out of memory"),
        (1, {"lines": ["MemoryError"]}, "OUT_OF_MEMORY", "out_of_memory", "MemoryError"),
        (-15, {"leave": Leave.ASKED}, "FAILED", "killed", "asked to leave from outside"),
        (0, {"unreadable": "1.result.json: loss: unknown"}, "FAILED", "bad_request", "1.result.json"),
        (1, {"said": Failure("diverged", "loss is NaN at step 3")}, "FAILED", "diverged", "loss is NaN at step 3"),
    ],
)
def test_how_an_end_is_read(returncode: int, known: dict[str, Any], state: str, kind: str | None, message: str) -> None:
    found = judge(returncode, **known)
    assert found[:2] == (JobState(state), kind)
    assert message in found[2]


def test_values_of_secrets_are_hidden_wherever_they_stand() -> None:
    lines = ["Traceback (most recent call last):", "  login('s3cret-value')", "ValueError: bad token s3cret-value"]
    _, failure = judge_ending(Ending(returncode=1, walltime_s=1.0, lines=lines, secrets=("s3cret-value",)))
    assert failure is not None
    assert failure.message == f"ValueError: bad token {HIDDEN}"
    assert failure.evidence[1] == f"  login('{HIDDEN}')"


def test_a_value_too_short_to_be_a_secret_does_not_blot_out_the_log() -> None:
    assert pick_evidence(["step 1 of 100"], secrets=("1", "")) == ("step 1 of 100",)


def test_the_last_traceback_is_the_evidence_up_to_its_error() -> None:
    lines = [*CRASH, "", "retrying", *TRACEBACK[1:3], "KeyError: 'b'", "bye"]
    assert pick_evidence(lines) == (*TRACEBACK[1:3], "KeyError: 'b'")


def test_without_a_traceback_the_last_lines_are_the_evidence() -> None:
    assert pick_evidence([f"line {number}" for number in range(100)]) == tuple(f"line {n}" for n in range(92, 100))


def test_the_tail_of_a_huge_log_is_read_without_the_rest() -> None:
    log = io.BytesIO(b"x" * 10_000_000 + b"\n\xff last \n\n")
    tail = read_tail(log)
    assert tail[-1] == "\N{REPLACEMENT CHARACTER} last"
    assert max(map(len, tail)) <= 300


TORCHRUN = """\
[rank0]: Traceback (most recent call last):
[rank0]:   File "train.py", line 3, in <module>
[rank0]: ValueError: bad row
E1122 10:12:46.1 7 torch/distributed/elastic/multiprocessing/api.py:988] failed (exitcode: 1) local_rank: 0 (pid: 9)
Traceback (most recent call last):
  File "<frozen runpy>", line 198, in _run_module_as_main
torch.distributed.elastic.multiprocessing.{of}
============================================================
  exitcode  : 1 (pid: 9)
"""


@pytest.mark.parametrize("of", ["errors.ChildFailedError: ", "api.SignalException: Process 7 got signal: 14"])
def test_of_what_torchrun_ran_the_programs_own_words_count_and_not_torchruns(tmp_path: Path, of: str) -> None:
    (tmp_path / "log").write_text(TORCHRUN.format(of=of))
    with (tmp_path / "log").open("rb") as log:
        lines = read_tail(log)
    assert find_error_line(lines) == "ValueError: bad row"
    assert pick_evidence(lines) == (
        "Traceback (most recent call last):", '  File "train.py", line 3, in <module>', "ValueError: bad row",
    )  # fmt: skip
