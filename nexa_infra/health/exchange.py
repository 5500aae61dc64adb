"""Every node reaches every other one over TCP, what it sends arrives whole, and the clocks agree; takes milliseconds.

It stands in for the all-reduce where there are no GPUs, or where the site does without: a wrong address, a firewall, a
path that loses large packets and a clock that is off are found here, and a broken fabric between GPUs is not.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from threading import Thread
from types import TracebackType
from typing import Self

from nexa_contracts.clock import Clock
from nexa_contracts.rendezvous import JoinResult, JoinSign

_SENT = bytes(range(256)) * 1024
"""256 KiB: far more than one packet, of whatever size a network takes."""
_DIGEST = hashlib.sha256(_SENT).digest()
_ANSWER = struct.Struct(f"!{len(_DIGEST)}sd")
"""The digest of what came, and the time by the clock of whom it came to."""
_STRANGER_S = 15.0
"""For whoever finds the port and has nothing to say."""
_MOST_AT_ONCE = 16
_SHOWN = 8


class Host:
    """Answers the other nodes from when it is made: whoever reads where it answers finds it there."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        dual = socket.has_dualstack_ipv6()
        self._listener = socket.create_server(
            ("", 0), family=socket.AF_INET6 if dual else socket.AF_INET, dualstack_ipv6=dual, backlog=512
        )
        self.port: int = self._listener.getsockname()[1]
        self._thread = Thread(target=self._serve)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # so that the thread that waits in it wakes up
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(_STRANGER_S)
            came = _receive(connection, len(_SENT))
            connection.sendall(_ANSWER.pack(hashlib.sha256(came).digest(), self._clock.now().timestamp()))


@dataclass(frozen=True, slots=True)
class _Heard:
    node: str
    words: str = ""
    """Why nothing was heard."""
    ahead_s: float = 0.0
    """How far our clock is ahead of theirs."""


def exchange(signs: Sequence[JoinSign], own: JoinSign, *, clock: Clock, timeout_s: float) -> JoinResult:
    """Return whether all the others answer this node; it never raises for what went wrong."""
    others = [sign for sign in signs if sign.node != own.node]
    with ThreadPoolExecutor(_MOST_AT_ONCE) as pool:
        heard = list(pool.map(lambda sign: _ask(sign, clock, timeout_s), others))
    failed = [each for each in heard if each.words]
    more = f" and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
    ahead_s = median([0.0, *(each.ahead_s for each in heard)]) if not failed else None
    return JoinResult(
        node=own.node,
        round=own.round,
        is_done=not failed,
        words="; ".join(each.words for each in failed[:_SHOWN]) + more,
        unreached=tuple(each.node for each in failed),
        ahead_s=ahead_s,
    )


def _ask(sign: JoinSign, clock: Clock, timeout_s: float) -> _Heard:
    where = f"{sign.node} at {sign.address}:{sign.port}"
    try:
        with socket.create_connection((sign.address, sign.port), timeout=timeout_s) as connection:
            before_s = clock.now().timestamp()
            connection.sendall(_SENT)
            digest, theirs_s = _ANSWER.unpack(_receive(connection, _ANSWER.size))
            after_s = clock.now().timestamp()
    except TimeoutError:
        return _Heard(sign.node, f"{where}: no answer in {timeout_s:g} s")
    except OSError as error:
        return _Heard(sign.node, f"{where}: {str(error.strerror or error).lower()}")
    if digest != _DIGEST:
        return _Heard(sign.node, f"{where}: what was sent arrived changed")
    return _Heard(sign.node, ahead_s=(before_s + after_s) / 2 - theirs_s)


def _receive(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(min(1 << 16, size - len(parts)))
        if not part:
            raise ConnectionResetError(f"the connection ended after {len(parts)} of {size} bytes")
        parts += part
    return bytes(parts)
