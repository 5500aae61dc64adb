"""The promoter: a process beside training that seals checkpoints, promotes them and rotates the old ones.

`python -m nexa_infra.storage.promoter` reads requests from stdin and answers on stdout, see `promoter_messages`. It
ends when stdin does, after what was asked until then. It is nice, so that hashing does not slow training.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from threading import Condition, Thread
from typing import IO, Any

from nexa_contracts.clock import Clock, SystemClock
from nexa_contracts.errors import AlreadyExists, DigestMismatch, NexaError, StorageError
from nexa_infra.storage.checkpoints import rotate
from nexa_infra.storage.fence import Fence, Fenced, publish_folder
from nexa_infra.storage.layout import Tiers
from nexa_infra.storage.promote import ArtifactLabel, promote_folder
from nexa_infra.storage.promoter_messages import PromoterRequest, parse_request, render_line
from nexa_infra.storage.seal import seal_folder

logger = logging.getLogger(__name__)

_NICENESS = 10


class Inbox:
    """Requests in the order they came, read by a thread so that the sender never waits."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._waiting: deque[tuple[int, PromoterRequest]] = deque()
        self._is_open = True
        self._changed = Condition()
        Thread(target=self._read, args=(stream,), name="promoter-inbox", daemon=True).start()

    def take(self) -> tuple[int, PromoterRequest] | None:
        """Return the next request, waiting for it; None when there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self._is_open)
            return self._waiting.popleft() if self._waiting else None

    def folders(self) -> frozenset[Path]:
        """Return the folders that are asked for and not yet done."""
        with self._changed:
            return frozenset(request.place for _, request in self._waiting)

    def _read(self, stream: IO[bytes]) -> None:
        try:
            # A last line without its newline was cut off when its writer died: nobody waits for that answer.
            for line in iter(stream.readline, b""):
                if line.endswith(b"\n"):
                    request = parse_request(line)
                    with self._changed:
                        self._waiting.append(request)
                        self._changed.notify_all()
        except ValueError as error:
            logger.warning("promoter ends, a line was not understood: %s", error)
        finally:
            with self._changed:
                self._is_open = False
                self._changed.notify_all()


def serve(inbox: Inbox, answers: IO[bytes], *, tiers: Tiers, clock: Clock, fence: Fence | None = None) -> None:
    """Answer requests one after the other until there are no more; an error is an answer.

    When nobody reads the answers any more, what was asked is still done; when a later attempt has the run, nothing is.
    """
    verified: set[Path] = set()
    waiting = _Waiting(tiers, clock)
    is_heard = True
    while (taken := inbox.take()) is not None:
        number, request = taken
        started_s = clock.monotonic_s()
        try:
            _publish(request, fence, clock=clock)
            fields = _do(replace(request, folder=str(request.place)), verified, tiers=tiers, clock=clock)
        except Fenced as error:
            logger.warning("%s", error)
            _answer(answers, render_line(number, {"error": error.message, "hint": error.hint}))
            return
        except NexaError as error:
            logger.warning("failed run_id=%s folder=%s: %s", request.run_id, request.folder, error)
            fields = {"error": error.message, "hint": error.hint}
            waiting.add(request, error)
        fields["seconds"] = clock.monotonic_s() - started_s
        if is_heard:
            is_heard = _answer(answers, render_line(number, fields))
        if request.keep_last is not None:
            waiting.keep_newest(request.keep_last)
        waiting.try_again(but=request.place)
        if request.keep_last is not None:
            _rotate(request, inbox.folders() | waiting.folders(), verified, tiers)
    waiting.try_again()


class _Waiting:
    """Checkpoints that were to be kept while durable could not take them: they outlive the rotation for a while."""

    def __init__(self, tiers: Tiers, clock: Clock) -> None:
        self._tiers = tiers
        self._clock = clock
        self._requests: dict[Path, PromoterRequest] = {}

    def add(self, request: PromoterRequest, error: NexaError) -> None:
        """Take one in, if the reason can pass."""
        folder = request.place
        if request.operation == "seal_and_promote" and _can_pass(error) and folder.is_dir():
            self._requests[folder] = request

    def folders(self) -> frozenset[Path]:
        """Return where they are."""
        return frozenset(self._requests)

    def keep_newest(self, most: int) -> None:
        """Let all but that many of them go, so that scratch does not fill up."""
        newest = sorted(self._requests, key=lambda folder: self._requests[folder].step or 0)[-most:]
        for folder in self._requests.keys() - set(newest):
            request = self._requests.pop(folder)
            logger.warning("is not kept, durable did not take it run_id=%s name=%s", request.run_id, request.name)

    def try_again(self, *, but: Path | None = None) -> None:
        """Promote those that durable takes now, except for `but`, which it has just refused."""
        for folder, request in list(self._requests.items()):
            if folder == but:
                continue
            try:
                promote_folder(folder, _label(request), tiers=self._tiers, clock=self._clock)
            except NexaError as error:
                if _can_pass(error):
                    logger.info("still not promoted name=%s: %s", request.name, error)
                    continue
                logger.warning("is not kept name=%s: %s", request.name, error)
            else:
                logger.warning("is kept after all run_id=%s name=%s", request.run_id, request.name)
            del self._requests[folder]


def _can_pass(error: NexaError) -> bool:
    return isinstance(error, StorageError) and not isinstance(error, AlreadyExists | DigestMismatch)


def main(environment: Mapping[str, str]) -> int:
    """Serve until stdin ends; return the exit status."""
    logging.basicConfig(level=logging.WARNING, format="nexa promoter: %(message)s", stream=sys.stderr)
    # Ctrl-C and a scheduler's TERM are for training, which then saves a last checkpoint and hands it to us.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(_NICENESS)
    tiers = Tiers.from_environment(environment)
    fence = Fence.from_environment(environment)
    serve(Inbox(sys.stdin.buffer), sys.stdout.buffer, tiers=tiers, clock=SystemClock(), fence=fence)
    return 0


def _publish(request: PromoterRequest, fence: Fence | None, *, clock: Clock) -> None:
    folder = Path(request.folder)
    if fence is not None:
        fence.check()
    if folder == request.place or not folder.is_dir():  # it may have been moved before an answer was lost
        return
    seal_folder(folder, kind=request.kind, run_id=request.run_id, step=request.step, now=clock.now(), replace=True)
    publish_folder(folder, request.place, fence)


def _do(request: PromoterRequest, verified: set[Path], *, tiers: Tiers, clock: Clock) -> dict[str, Any]:
    folder, label = Path(request.folder), _label(request)
    # A folder that is gone may have been promoted and rotated away before the answer arrived: promoting tells.
    if request.operation == "seal" or folder.is_dir():
        seal = seal_folder(folder, kind=label.kind, run_id=label.run_id, step=label.step, now=clock.now(), replace=True)
        verified.add(folder)
        if request.operation == "seal":
            return {"seal_sha256": seal.digest(), "size_bytes": seal.size_bytes}
    manifest = promote_folder(folder, label, tiers=tiers, clock=clock)
    return {"seal_sha256": manifest.seal_sha256, "size_bytes": manifest.size_bytes, "path": manifest.path}


def _label(request: PromoterRequest) -> ArtifactLabel:
    return ArtifactLabel(request.name, request.kind, request.run_id, request.step)


def _rotate(request: PromoterRequest, protected: frozenset[Path], verified: set[Path], tiers: Tiers) -> None:
    if request.keep_last is None:
        return
    try:
        rotate(request.run_id, tiers, keep_last=request.keep_last, protected=protected, verified=verified)
    except NexaError as error:
        logger.warning("old checkpoints stay on scratch run_id=%s: %s", request.run_id, error)


def _answer(answers: IO[bytes], line: bytes) -> bool:
    try:
        answers.write(line)
        answers.flush()
    except BrokenPipeError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(os.environ))
