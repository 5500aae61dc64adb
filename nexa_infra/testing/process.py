"""A runner that answers from a script, and what every runner promises."""

# ruff: noqa: S101 - contract tests assert, wherever they live

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import pytest

from nexa_contracts.errors import CommandFailed, CommandMissing, CommandTimedOut, NexaError
from nexa_infra.process import Call, CommandRunner, Completed, show

Answer = Completed | NexaError | Callable[[Call], Completed]


class FakeRunner(CommandRunner):
    """Answers commands by their first words; the longest match wins, and what has no answer is not installed."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._answers: dict[tuple[str, ...], Answer] = {}

    def answer(self, argv: Sequence[str], answer: Answer | str = "") -> FakeRunner:
        """Answer commands that begin with these words; a text is the stdout of a success. Returns itself."""
        self._answers[tuple(argv)] = Completed(0, stdout=answer) if isinstance(answer, str) else answer
        return self

    def _run(self, call: Call) -> Completed:
        self.calls.append(call)
        found = [words for words in self._answers if call.argv[: len(words)] == words]
        if not found:
            raise CommandMissing(f"{call.argv[0]}: cannot be run: no such file or directory; asked: {show(call.argv)}")
        answer = self._answers[max(found, key=len)]
        if isinstance(answer, NexaError):
            raise answer
        if isinstance(answer, Completed):
            return Completed(answer.returncode, answer.stdout, answer.stderr, call.argv, answer.stdout.encode())
        return answer(call)


class RunnerContract(ABC):
    """What every CommandRunner promises; a test class inherits it and says which runner."""

    SAYS = (sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr)")
    ECHOES = (sys.executable, "-c", "import sys; print(sys.stdin.read().upper(), end='')")
    FAILS = (sys.executable, "-c", "import sys; sys.exit('it broke')")
    HANGS = (sys.executable, "-c", "import time; time.sleep(600)")
    MISSING = ("no-such-program-anywhere",)

    @abstractmethod
    def make_runner(self) -> CommandRunner:
        """Return a runner that knows the five commands above."""

    def test_output_and_errors_are_apart(self) -> None:
        """A warning on stderr must not end up in a parsed reply."""
        completed = self.make_runner().run(self.SAYS, timeout_s=60)
        assert (completed.returncode, completed.stdout, completed.stderr) == (0, "out\n", "err\n")
        assert completed.raw == b"out\n"

    def test_input_reaches_the_program(self) -> None:
        """And its end too: the program must not wait for more."""
        assert self.make_runner().run(self.ECHOES, timeout_s=60, input="abc").stdout == "ABC"

    def test_a_failure_is_an_answer_until_success_is_required(self) -> None:
        """Some programs say no with a status."""
        completed = self.make_runner().run(self.FAILS, timeout_s=60)
        assert completed.returncode == 1
        with pytest.raises(CommandFailed, match="status 1: it broke"):
            completed.require_success()

    def test_a_missing_program_is_named(self) -> None:
        """The name is what a person has to install."""
        with pytest.raises(CommandMissing, match="no-such-program-anywhere"):
            self.make_runner().run(self.MISSING, timeout_s=60)

    def test_a_program_that_hangs_is_ended(self) -> None:
        """However long it would have taken."""
        with pytest.raises(CommandTimedOut):
            self.make_runner().run(self.HANGS, timeout_s=0.2)
