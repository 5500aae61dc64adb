"""The lock of a journal: held by one, handed on, and taken from the dead only."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from nexa_contracts.clock import SystemClock
from nexa_infra.process import SystemRunner
from nexa_infra.scheduling.adaptive.journal_lock import LONGEST_S, JournalLock
from nexa_infra.testing.clock import FakeClock
from tests.scheduling.local_machine import wait_until

HOLD = """
import pathlib, sys, time
from nexa_contracts.clock import SystemClock
from nexa_infra.scheduling.adaptive.journal_lock import JournalLock
JournalLock(pathlib.Path(sys.argv[1]), clock=SystemClock()).acquire()
time.sleep(600)
"""
OPTUNAS = """
import sys, time
from optuna.storages.journal import JournalFileSymlinkLock
JournalFileSymlinkLock(sys.argv[1]).acquire()
time.sleep(600)
"""


class Watched(FakeClock):
    """A clock whose sleeps something else happens in."""

    def __init__(self, meanwhile: Callable[[float], None]) -> None:
        super().__init__()
        self._meanwhile = meanwhile
        self._began_s = self.monotonic_s()

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self._meanwhile(self.monotonic_s() - self._began_s)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "study.journal"
    path.write_bytes(b'{"op_code":0}\n')
    return path


def make(journal: Path, clock: FakeClock | None = None) -> JournalLock:
    return JournalLock(journal, clock=clock or FakeClock())


def link(journal: Path) -> Path:
    return journal.with_name("study.journal.lock")


@pytest.mark.parametrize("program", [HOLD, OPTUNAS])
def test_a_holder_that_is_killed_keeps_the_others_out_for_half_a_minute_and_no_longer(
    journal: Path, tmp_path: Path, program: str
) -> None:
    told = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    holder = SystemRunner().start(
        [sys.executable, "-c", program, str(journal)], output=tmp_path / "said", env=told, cwd=tmp_path
    )
    wait_until(link(journal).is_symlink, what="the lock")
    with journal.open("ab") as stream:
        stream.write(b'{"op_code":4,"work')  # it was writing
    holder.send_signal(signal.SIGKILL)
    holder.wait(60)
    clock = FakeClock()
    before_s = clock.monotonic_s()
    lock = make(journal, clock)
    assert lock.acquire()
    assert LONGEST_S <= clock.monotonic_s() - before_s <= LONGEST_S + 2
    assert journal.read_bytes() == b'{"op_code":0}\n'
    lock.release()
    assert list(tmp_path.glob("*.lock*")) == []


def test_a_lock_whose_target_leads_nowhere_is_waited_for_all_the_same(journal: Path) -> None:
    link(journal).symlink_to("storage/shared/study.journal")  # as a program started with a relative path makes it
    clock = Watched(lambda _: None)
    lock = make(journal, clock)
    assert lock.acquire()
    assert sum(clock.slept_s) >= LONGEST_S
    lock.release()


def test_holders_that_follow_one_another_are_not_robbed_however_long_it_takes(journal: Path) -> None:
    others = [make(journal) for _ in range(6)]
    others[0].acquire()
    turn = 0

    def hand_on(passed_s: float) -> None:
        nonlocal turn
        while turn < 5 and passed_s >= (turn + 1) * LONGEST_S * 0.8:
            others[turn].release()
            others[turn + 1].acquire()
            turn += 1
        if turn == 5 and passed_s >= 6 * LONGEST_S * 0.8:
            others[5].release()  # which raises if somebody took it away
            turn = 6

    clock = Watched(hand_on)
    lock = make(journal, clock)
    assert lock.acquire()
    assert turn == 6
    lock.release()


def test_a_holder_that_slept_too_long_is_told_and_leaves_the_next_one_its_lock(journal: Path) -> None:
    sleeper, next_one = make(journal), make(journal)
    sleeper.acquire()
    next_one.acquire()
    with pytest.raises(RuntimeError, match="taken away"):
        sleeper.release()
    assert link(journal).is_symlink()
    next_one.release()
    assert not link(journal).is_symlink()


def test_a_journal_that_cannot_be_written_is_told_and_nobody_is_kept_out(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        make(tmp_path / "study.journal").acquire()
    assert list(tmp_path.iterdir()) == []


def test_many_at_once_take_turns(journal: Path) -> None:
    inside, most, turns = 0, 0, 0

    def take_turns() -> None:
        nonlocal inside, most, turns
        lock = JournalLock(journal, clock=SystemClock())
        for _ in range(20):
            lock.acquire()
            inside += 1
            most = max(most, inside)
            turns += 1
            inside -= 1
            lock.release()

    threads = [threading.Thread(target=take_turns) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, turns) == (1, 80)
