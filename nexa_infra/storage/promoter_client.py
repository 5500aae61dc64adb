"""The training side of the promoter: hands over what was saved and goes on training."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from threading import Condition, Thread
from types import TracebackType
from typing import IO, Literal, Protocol

from nexa_contracts import env
from nexa_contracts.errors import StorageError
from nexa_infra.storage.layout import Tiers
from nexa_infra.storage.promoter_messages import PromoterAnswer, PromoterRequest, parse_answer, render_line

logger = logging.getLogger(__name__)

_MAX_STARTS = 2
_LOOK_AGAIN_S = 0.2


class ChildProcess(Protocol):
    """A started program with pipes, as `nexa_infra.process.Child`."""

    pid: int

    @property
    def stdin(self) -> IO[bytes]:
        """Its input."""
        ...

    @property
    def stdout(self) -> IO[bytes]:
        """Its output."""
        ...

    def poll(self) -> int | None:
        """Return its status when it has ended, negative for a signal."""
        ...

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Return its status when it ends within the time, else None."""
        ...

    def close_input(self) -> None:
        """Let it read the end of its input."""
        ...

    def close(self) -> None:
        """Close our ends of its pipes."""
        ...

    def let_go(self) -> None:
        """Leave it to itself."""
        ...


class ChildStarter(Protocol):
    """Starts programs, as `nexa_infra.process.SystemRunner`: storage stands beside it and cannot import it."""

    def start(
        self, argv: Sequence[str], *, output: Literal["pipes"], env: Mapping[str, str] | None = None
    ) -> ChildProcess:
        """Return a started child with pipes for its input and output."""
        ...


class PromoterClient:
    """Owns one promoter process, started with the first request. For one thread.

    A promoter that died is started once more and asked again what it had not answered: requests do no harm twice.
    """

    def __init__(self, tiers: Tiers, *, starter: ChildStarter, environment: Mapping[str, str]) -> None:
        """`environment` is the promoter's, as a rule `os.environ`; the tiers are added to it."""
        self._starter = starter
        places = {env.SCRATCH_DIR: tiers.scratch, env.DURABLE_DIR: tiers.durable, env.SHARED_DIR: tiers.shared}
        self._environment = {**environment, **{name: str(path) for name, path in places.items()}}
        self._child: ChildProcess | None = None
        self._reader: Thread | None = None
        self._starts = 0
        self._last_number = 0
        self._unanswered: dict[int, PromoterRequest] = {}
        self._answers: list[PromoterAnswer] = []
        self._changed = Condition()

    @property
    def pid(self) -> int | None:
        """The promoter's process id; None when it is not running."""
        return None if self._child is None or self._child.poll() is not None else self._child.pid

    def submit(self, request: PromoterRequest) -> None:
        """Hand over a folder that is written, and return at once; what becomes of it is told by `drain`."""
        self._last_number += 1
        with self._changed:
            self._unanswered[self._last_number] = request
        if self.pid is not None:
            self._send({self._last_number: request})
        else:
            self._start()

    def collect(self) -> tuple[PromoterAnswer, ...]:
        """Return the answers that came since the last call, in the order asked, without waiting."""
        with self._changed:
            answers, self._answers = tuple(self._answers), []
        return answers

    def drain(self, timeout_s: float) -> tuple[PromoterAnswer, ...]:
        """Return all answers that were not collected yet, after waiting for what is under way.

        Raises:
            StorageError: a request failed, is not answered in time, or the promoter died twice; the message names the
                first of them. All that could be done was done.
        """
        deadline_s = time.monotonic() + timeout_s
        while self._unanswered and time.monotonic() < deadline_s:
            if self.pid is None and not self._start():
                break
            with self._changed:
                self._changed.wait(_LOOK_AGAIN_S)
        answers = self.collect()
        failed = [answer for answer in answers if answer.error is not None]
        if failed:
            with self._changed:  # what went well can still be collected
                self._answers = [answer for answer in answers if answer.error is None] + self._answers
            more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
            raise StorageError(f"{failed[0].error}{more}", hint=failed[0].hint)
        with self._changed:
            left = list(self._unanswered.values())
        if left:
            why = f"not done after {timeout_s:g} s" if self.pid is not None else f"the promoter {self._ended()}"
            raise StorageError(f"{left[0].folder}: {len(left)} requests to seal or promote are open: {why}")
        return answers

    def close(self, timeout_s: float = 60.0) -> None:
        """Let the promoter finish what it was asked, and end; after `timeout_s` it goes on and ends by itself."""
        if self._child is None:
            return
        self._child.close_input()
        if self._child.wait(timeout_s) is None:
            logger.warning("promoter is still at work and will end by itself pid=%d", self._child.pid)
            self._child.let_go()
        else:
            self._join_reader()
            self._child.close()
        self._child = None

    def __enter__(self) -> PromoterClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> bool:
        # Answers that a dead promoter still gave are read before anything is asked again.
        if self._child is not None:
            self._join_reader()
            logger.warning("promoter %s pid=%d", self._ended(), self._child.pid)
            self._child.close()
        with self._changed:
            waiting = dict(self._unanswered)
        if not waiting or self._starts >= _MAX_STARTS:
            return not waiting
        self._starts += 1
        command = (sys.executable, "-m", "nexa_infra.storage.promoter")
        self._child = self._starter.start(command, output="pipes", env=self._environment)
        self._reader = Thread(target=self._read, args=(self._child,), name="promoter-answers", daemon=True)
        self._reader.start()
        self._send(waiting)
        return True

    def _send(self, requests: Mapping[int, PromoterRequest]) -> None:
        if self._child is None:
            return
        try:
            for number, request in requests.items():
                self._child.stdin.write(render_line(number, request))
            self._child.stdin.flush()
        except BrokenPipeError:
            logger.debug("promoter is gone; it is started again when asked next pid=%d", self._child.pid)

    def _read(self, child: ChildProcess) -> None:
        for line in iter(child.stdout.readline, b""):
            try:
                number, fields = parse_answer(line)
                with self._changed:
                    self._answers.append(PromoterAnswer(self._unanswered.pop(number), **fields))
                    self._changed.notify_all()
            except (ValueError, KeyError, TypeError) as error:
                logger.warning("promoter said what is not an answer: %s", error)
        with self._changed:
            self._changed.notify_all()

    def _join_reader(self) -> None:
        if self._reader is not None:
            self._reader.join()

    def _ended(self) -> str:
        status = None if self._child is None else self._child.poll()
        if status is None:
            return "is not running"
        return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
