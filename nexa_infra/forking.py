"""What a new process does between fork and exec: signals it shall not hear, and dying when whoever started it dies."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence

_PR_SET_PDEATHSIG = 1


def prepare_child(end_with_us: bool, deaf_to: Sequence[signal.Signals]) -> Callable[[], None] | None:
    """Return what a child runs before its program, or None; libc is loaded here, before the fork.

    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    die = _die_with_parent() if end_with_us else None
    if not deaf_to:
        return die

    def before() -> None:
        for number in deaf_to:
            signal.signal(number, signal.SIG_IGN)
        if die is not None:
            die()

    return before


def _die_with_parent() -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    import ctypes

    libc, parent = ctypes.CDLL(None), os.getpid()

    def before() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # we were gone before the kernel was told
            os._exit(1)

    return before
