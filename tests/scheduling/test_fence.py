"""Claims and fences, with processes that sleep where it hurts most."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexa_contracts import env
from nexa_contracts.errors import ConfigError, StorageError
from nexa_infra.scheduling.ending import Leave
from nexa_infra.scheduling.fence import Owner, claim_run, find_leaving, find_start, note_leaving, start_attempt
from nexa_infra.storage.fence import Fence, Fenced, publish_folder
from nexa_infra.storage.run_dir import RunDir
from nexa_infra.testing.clock import FakeClock

OURS = Owner("cluster", "12_3", "sweep_1.c0")


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "run")


def start(run_dir: RunDir, number: int) -> Fence | None:
    return start_attempt(run_dir, number, restarts=number - 1, clock=FakeClock())


def require(fence: Fence | None) -> Fence:
    assert fence is not None
    return fence


@pytest.mark.parametrize(
    "other",
    [Owner("cluster", "12_4", "sweep_1.c0"), Owner("cluster", "12_3", "sweep_2.c0"), Owner("b", "12_3", "sweep_1.c0")],
)
def test_a_run_belongs_to_the_first_job_that_claims_it(run_dir: RunDir, other: Owner) -> None:
    assert claim_run(run_dir, OURS, clock=FakeClock()) == OURS
    assert claim_run(run_dir, OURS, clock=FakeClock()) == OURS  # the same job, started again
    assert claim_run(run_dir, other, clock=FakeClock()) == OURS


def test_a_damaged_claim_is_nobodys(run_dir: RunDir) -> None:
    claim_run(run_dir, OURS, clock=FakeClock())
    run_dir.owner.write_text("{")
    with pytest.raises(StorageError, match=r"owner.json: damaged"):
        claim_run(run_dir, OURS, clock=FakeClock())


def test_a_later_attempt_fences_the_earlier_one(run_dir: RunDir) -> None:
    first = require(start(run_dir, 1))
    first.check()
    second = require(start(run_dir, 2))
    with pytest.raises(Fenced, match="attempt 2 has the run now; attempt 1 writes nothing"):
        first.check()
    second.check()


def test_an_attempt_is_begun_once(run_dir: RunDir) -> None:
    assert start(run_dir, 1) is not None
    assert start(run_dir, 1) is None


def test_a_process_that_slept_before_it_raised_its_fence_does_not_shut_its_successor_out(run_dir: RunDir) -> None:
    late = require(start(run_dir, 1))
    text = run_dir.fence.read_bytes()
    second = require(start(run_dir, 2))
    run_dir.fence.write_bytes(text)  # the first one wakes up and writes what it was about to
    second.check()
    with pytest.raises(Fenced):
        late.check()


def test_a_fence_that_cannot_be_read_lets_nobody_write(run_dir: RunDir) -> None:
    fence = require(start(run_dir, 1))
    run_dir.fence.write_text("{")
    with pytest.raises(StorageError, match="damaged"):
        fence.check()
    run_dir.fence.unlink()
    with pytest.raises(StorageError, match="cannot be read"):
        fence.check()


def test_a_program_learns_of_its_fence_from_its_environment(run_dir: RunDir) -> None:
    fence = require(start(run_dir, 3))
    assert Fence.from_environment({**fence.tell(), env.ATTEMPT: "3"}) == fence
    assert Fence.from_environment({}) is None
    with pytest.raises(ConfigError, match="NEXA_FENCE"):
        Fence.from_environment({env.FENCE: "nonsense", env.ATTEMPT: "1"})


def test_a_finished_folder_appears_whole_and_never_behind_the_fence(run_dir: RunDir, tmp_path: Path) -> None:
    first = require(start(run_dir, 1))
    source, target = tmp_path / "own", tmp_path / "checkpoint-5"
    for folder, text in ((source, "new"), (target, "useless")):
        folder.mkdir()
        (folder / "weights").write_text(text)
    publish_folder(source, target, first)
    assert (target / "weights").read_text() == "new"
    assert not source.exists()
    start(run_dir, 2)
    source.mkdir()
    with pytest.raises(Fenced):
        publish_folder(source, target, first)
    assert (target / "weights").read_text() == "new"


def test_what_was_begun_and_why_it_left_is_known_to_who_comes_next(run_dir: RunDir) -> None:
    assert find_start(run_dir, 1) is None
    fence = require(start(run_dir, 1))
    begun = find_start(run_dir, 1)
    assert begun is not None
    assert (begun.number, begun.started_at, begun.restarts) == (1, FakeClock().now(), 0)
    assert find_leaving(run_dir, 1) is None
    note_leaving(fence, Leave.TIMED_OUT)
    assert find_leaving(run_dir, 1) is Leave.TIMED_OUT
