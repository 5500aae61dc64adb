"""Exit statuses agreed between the command line, the job entry and the programs that run inside a job."""

from __future__ import annotations

from enum import IntEnum


class CommandExit(IntEnum):
    """What a `nexa` command's exit status means."""

    DONE = 0
    FAILED = 1
    BAD_REQUEST = 2
    REFUSED = 3
    EXTERNAL = 4
    INTERRUPTED = 130
    READER_GONE = 141
    """Whoever read the output has gone (`| head`); as a shell reports a program that SIGPIPE ended."""


class WorkExit(IntEnum):
    """What the exit status of a program inside a job means to the job entry.

    Values from 64 follow sysexits.h, so that a user's own script can use them without knowing us. Any other status
    is a crash, and is retried while `max_retries` allows.
    Source: https://man.openbsd.org/sysexits (EX_DATAERR 65, EX_TEMPFAIL 75, EX_CONFIG 78).
    """

    DONE = 0
    BAD_REQUEST = 2
    """The config is wrong: never retried."""
    DIVERGED = 65
    """NaN or a diverging loss: never retried."""
    SAVED_AND_LEFT = 75
    """Asked to leave by a signal; a checkpoint was saved: may be started again without using up a retry."""
    BAD_CONFIG = 78
    """As BAD_REQUEST, in the words of sysexits."""


NEVER_RETRIED = frozenset({WorkExit.BAD_REQUEST, WorkExit.DIVERGED, WorkExit.BAD_CONFIG})
