from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from nexa_contracts.errors import CommandFailed, CommandMissing, CommandTimedOut, NotFound
from nexa_infra.process import HIDDEN, Call, Completed, SystemRunner, show, tail
from nexa_infra.testing.process import FakeRunner, RunnerContract

PATIENCE_S = 60.0


class TestSystemRunner(RunnerContract):
    def make_runner(self) -> SystemRunner:
        return SystemRunner()


class TestFakeRunner(RunnerContract):
    def make_runner(self) -> FakeRunner:
        def echo(call: Call) -> Completed:
            return Completed(0, stdout=(call.input or "").upper())

        return (
            FakeRunner()
            .answer(self.SAYS, Completed(0, "out\n", "err\n"))
            .answer(self.ECHOES, echo)
            .answer(self.FAILS, Completed(1, "", "it broke\n"))
            .answer(self.HANGS, CommandTimedOut("still running"))
        )


def test_the_fake_prefers_the_longest_answer_and_notes_what_was_asked() -> None:
    runner = FakeRunner().answer(["git"], "any").answer(["git", "rev-parse"], "abc")
    assert runner.run(["git", "rev-parse", "HEAD"], timeout_s=1, cwd=Path("/p")).stdout == "abc"
    assert runner.run(["git", "status"], timeout_s=1).stdout == "any"
    assert [call.argv for call in runner.calls] == [("git", "rev-parse", "HEAD"), ("git", "status")]
    assert runner.calls[0].cwd == Path("/p")


def run_python(program: str, *words: str, timeout_s: float = PATIENCE_S) -> Completed:
    return SystemRunner().run([sys.executable, "-c", program, *words], timeout_s=timeout_s)


def test_words_reach_a_program_as_they_are() -> None:
    words = ["two words", "$HOME", "`id`", "a;b", "'", '"', "*", "", "\n"]
    completed = run_python("import sys; print(ascii(sys.argv[1:]))", *words)
    assert completed.stdout.strip() == ascii(words)


def test_a_time_out_ends_grandchildren_that_hold_the_output_open(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    program = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open(sys.argv[1], 'w').write(str(child.pid))\n"
        "print('started', file=sys.stderr, flush=True)\n"
        "time.sleep(600)\n"
    )
    with pytest.raises(CommandTimedOut, match="still running after 5 s; it was ended"):
        run_python(program, str(note), timeout_s=5)
    wait_until_gone(int(note.read_text()))


def test_a_program_cannot_stop_to_ask_on_the_terminal() -> None:
    completed = run_python("open('/dev/tty')")
    assert completed.returncode == 1
    assert "/dev/tty" in completed.stderr


def test_output_that_is_not_text_is_shown_and_kept() -> None:
    completed = run_python("import sys; sys.stdout.buffer.write(b'caf\\xe9\\0')")
    assert completed.stdout == "caf\ufffd\0"
    assert completed.raw == b"caf\xe9\0"


def test_much_output_on_both_pipes_does_not_stop_a_program() -> None:
    completed = run_python("import sys; print('o' * 10**6); print('e' * 10**6, file=sys.stderr)")
    assert (len(completed.stdout), len(completed.stderr)) == (10**6 + 1, 10**6 + 1)


def test_a_failure_shows_the_signal_and_the_last_lines() -> None:
    completed = run_python("import os; print('one'); print('two', flush=True); os.kill(os.getpid(), 9)")
    with pytest.raises(CommandFailed, match=r"ended with signal SIGKILL: one \| two"):
        completed.require_success()


def test_credentials_are_not_shown() -> None:
    token = "hf_" + "a" * 30
    assert show(["curl", "-H", token, "two words"]) == f"curl -H {HIDDEN} 'two words'"
    assert tail(f"ok\nAuthorization {token}\n") == f"ok | {HIDDEN}"


def test_what_cannot_be_run_is_told_apart(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    with pytest.raises(CommandMissing, match="permission denied"):
        SystemRunner().run([str(plain)], timeout_s=PATIENCE_S)
    with pytest.raises(NotFound, match="no such folder to run"):
        SystemRunner().run([sys.executable], timeout_s=PATIENCE_S, cwd=tmp_path / "none")


def test_a_detached_program_outlives_its_starter(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from nexa_infra.process import SystemRunner\n"
        "work = 'import time; print(1, flush=True); time.sleep(600)'\n"
        "print(SystemRunner().start_detached([sys.executable, '-c', work], output=pathlib.Path(sys.argv[1])))\n"
    )
    log = tmp_path / "log"
    pid = int(run_python(program, str(log)).require_success().stdout)
    while not log.read_text():
        os.sched_yield()
    assert os.getsid(pid) == pid
    os.kill(pid, signal.SIGKILL)
    wait_until_gone(pid)


def test_a_child_ends_with_a_killed_starter(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from nexa_infra.process import SystemRunner\n"
        "work = 'import time; time.sleep(600)'\n"
        "child = SystemRunner().start([sys.executable, '-c', work], output='ours', end_with_us=True)\n"
        "print(child.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    wait_until_gone(int(run_python(program).stdout))


def test_a_child_answers_through_its_pipes_and_is_signalled_as_a_group() -> None:
    child = SystemRunner().start([sys.executable, "-c", "print(input(), flush=True); input()"], output="pipes")
    child.stdin.write(b"hello\n")
    child.stdin.flush()
    assert child.stdout.readline() == b"hello\n"
    assert child.wait(0) is None
    child.send_signal(signal.SIGTERM)
    assert child.wait(PATIENCE_S) == -signal.SIGTERM
    child.send_signal(signal.SIGTERM)  # it is gone: nothing happens
    child.close()


def test_a_childs_output_is_appended_to_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    assert SystemRunner().start([sys.executable, "-c", "print('after')"], output=log).wait(PATIENCE_S) == 0
    assert log.read_text() == "before\nafter\n"


def wait_until_gone(pid: int) -> None:
    try:
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            os.sched_yield()
    except (FileNotFoundError, ProcessLookupError):
        return
