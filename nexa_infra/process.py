"""The one caller of `subprocess`: argument lists, time-outs, captured output, nothing through a shell.

Three ways to start a program, by who outlives whom: `run` waits for it; `start` gives a child that ends with us;
`start_detached` gives one that stays.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from nexa_contracts.env import holds_secret_text
from nexa_contracts.errors import CommandFailed, CommandMissing, CommandTimedOut, NotFound
from nexa_infra.forking import prepare_child

HIDDEN = "(hidden)"


@dataclass(frozen=True, slots=True)
class Completed:
    """A program that ended. `stdout` and `stderr` are its output as text, undecodable bytes replaced."""

    returncode: int
    """As subprocess has it: negative for the number of the signal that ended it."""
    stdout: str = ""
    stderr: str = ""
    argv: tuple[str, ...] = ()
    raw: bytes = field(default=b"", repr=False)
    """stdout to the byte, for lists of file names."""

    def require_success(self, *, hint: str | None = None) -> Completed:
        """Return itself.

        Raises:
            CommandFailed: the status is not zero; the message ends with the last lines the program printed.
        """
        if self.returncode == 0:
            return self
        said = tail(self.stderr) or tail(self.stdout) or "it printed nothing"
        how = f"status {self.returncode}" if self.returncode > 0 else f"signal {signal_name(-self.returncode)}"
        raise CommandFailed(f"{show(self.argv)}: ended with {how}: {said}", hint=hint)


@dataclass(frozen=True, slots=True)
class Call:
    """What a runner is asked to run."""

    argv: tuple[str, ...]
    timeout_s: float
    cwd: Path | None
    env: Mapping[str, str] | None
    """None: our own."""
    input: str | None


class CommandRunner(ABC):
    """Runs a program to its end. Implementations may be shared by threads and keep nothing between calls."""

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
    ) -> Completed:
        """Return how the program ended, whatever its status; `env` None means our own environment.

        Raises:
            CommandMissing: no such program.
            NotFound: no such folder `cwd`.
            CommandTimedOut: it ran past `timeout_s`; it and its process group were killed.
        """
        return self._run(Call(tuple(argv), timeout_s, cwd, env, input))

    @abstractmethod
    def _run(self, call: Call) -> Completed:
        """Do what `run` says."""


class Child:
    """A program that was started and not waited for; it leads a process group of its own."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid

    @property
    def stdin(self) -> IO[bytes]:
        """Its input, when it was started with pipes."""
        if self._process.stdin is None:
            raise ValueError("started without pipes")
        return self._process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        """Its output, when it was started with pipes."""
        if self._process.stdout is None:
            raise ValueError("started without pipes")
        return self._process.stdout

    def poll(self) -> int | None:
        """Return its status when it has ended, negative for a signal; None while it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Return its status when it ends within the time, else None."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to its process group; nothing happens when it has ended and was waited for."""
        if self._process.poll() is None:
            _signal_group(self.pid, number)

    def close_input(self) -> None:
        """Close its input, so that it reads the end."""
        if self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except BrokenPipeError:
                return  # it ended with input unread; the pipe is closed all the same

    def close(self) -> None:
        """Close our ends of its pipes."""
        self.close_input()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def let_go(self) -> None:
        """Leave it to itself; it is waited for in the background, so that it leaves no zombie."""
        _reap(self._process)


class SystemRunner(CommandRunner):
    """Runs programs on this machine, each in a session of its own, so that it cannot stop to ask on a terminal."""

    def _run(self, call: Call) -> Completed:
        stdin = subprocess.DEVNULL if call.input is None else subprocess.PIPE
        process = _open(call.argv, _Wiring(stdin, subprocess.PIPE, subprocess.PIPE), cwd=call.cwd, env=call.env)
        try:
            out, err = process.communicate(None if call.input is None else call.input.encode(), timeout=call.timeout_s)
        except BaseException as error:
            _end(process)
            if isinstance(error, subprocess.TimeoutExpired):
                raise CommandTimedOut(
                    f"{show(call.argv)}: still running after {call.timeout_s:g} s; it was ended",
                    hint=tail(_decode(error.stderr or error.stdout or b"")) or None,
                ) from error
            raise
        return Completed(process.returncode, _decode(out), _decode(err), call.argv, out)

    def start(
        self,
        argv: Sequence[str],
        *,
        output: Path | Literal["pipes", "ours", "ours, with input"],
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        end_with_us: bool = False,
        deaf_to: Sequence[signal.Signals] = (),
    ) -> Child:
        """Return a started child in a session of its own, so that a terminal's Ctrl-C does not reach it.

        `output` is a file that stdout and stderr are appended to, `pipes` for stdin and stdout as pipes, or `ours`,
        with stdin as a pipe or without.
        With `end_with_us` the kernel (Linux) kills it when the calling thread ends, however it ends; only for callers
        with a single thread, because code runs between fork and exec; so does it for the signals it is `deaf_to`, which
        it ignores until it sets a handler of its own.

        Raises:
            CommandMissing: no such program.
            NotFound: no such folder `cwd`.
        Source: https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html (it is the thread that counts).
        """
        before = prepare_child(end_with_us, tuple(deaf_to))
        if output == "pipes":
            wiring = _Wiring(stdin=subprocess.PIPE, stdout=subprocess.PIPE, before=before)
            return Child(_open(argv, wiring, cwd=cwd, env=env))
        if output in ("ours", "ours, with input"):
            stdin = subprocess.DEVNULL if output == "ours" else subprocess.PIPE
            return Child(_open(argv, _Wiring(stdin=stdin, before=before), cwd=cwd, env=env))
        with Path(output).open("ab") as log:
            return Child(_open(argv, _Wiring(stdout=log, stderr=log, before=before), cwd=cwd, env=env))

    def start_detached(
        self,
        argv: Sequence[str],
        *,
        output: Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> int:
        """Return the pid of a program that outlives us, in a session of its own, its output appended to a file.

        Raises:
            CommandMissing: no such program.
            NotFound: no such folder `cwd`.
        """
        with output.open("ab") as log:
            process = _open(argv, _Wiring(stdout=log, stderr=log), cwd=cwd, env=env)
        _reap(process)  # this process may live longer than that one
        return process.pid


def show(argv: Sequence[str]) -> str:
    """Return a command as a person would type it, words that look like a credential hidden."""
    import shlex

    return " ".join(HIDDEN if holds_secret_text(word) else shlex.quote(word) for word in argv)


def tail(text: str, *, lines: int = 5) -> str:
    """Return the last lines of a program's output on one line, those that look like a credential hidden."""
    last = [line.strip() for line in text.splitlines() if line.strip()][-lines:]
    return " | ".join(HIDDEN if holds_secret_text(line) else line for line in last)


def signal_name(number: int) -> str:
    """Return the name of a signal, as `SIGKILL`, or its number when it has none here."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


@dataclass(frozen=True, slots=True)
class _Wiring:
    stdin: int = subprocess.DEVNULL
    stdout: int | IO[bytes] | None = None
    stderr: int | IO[bytes] | None = None
    before: Callable[[], None] | None = None


def _open(
    argv: Sequence[str], wiring: _Wiring, *, cwd: Path | None, env: Mapping[str, str] | None
) -> subprocess.Popen[bytes]:
    if cwd is not None and not cwd.is_dir():
        raise NotFound(f"{cwd}: no such folder to run {argv[0]} in")
    try:
        return subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=None if env is None else dict(env),
            stdin=wiring.stdin,
            stdout=wiring.stdout,
            stderr=wiring.stderr,
            start_new_session=True,
            preexec_fn=wiring.before,  # noqa: PLW1509 - one call to libc, loaded before the fork
        )
    except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
        raise CommandMissing(
            f"{argv[0]}: cannot be run: {str(error.strerror).lower()}", hint="install it, or put it on PATH"
        ) from error


def _end(process: subprocess.Popen[bytes]) -> None:
    _signal_group(process.pid, signal.SIGKILL)
    for pipe in filter(None, (process.stdin, process.stdout, process.stderr)):
        pipe.close()
    # What waits in the kernel for a driver or a file server dies when that answers, which may be never.
    if Child(process).wait(2.0) is None:
        _reap(process)


def _reap(process: subprocess.Popen[bytes]) -> None:
    threading.Thread(target=process.wait, name=f"reap-{process.pid}", daemon=True).start()


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return  # it ended by itself


def _decode(raw: bytes) -> str:
    return raw.decode(errors="replace")
