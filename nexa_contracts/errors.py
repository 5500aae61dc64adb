"""Every error a user can act on, in one tree.

NexaError(message, hint, exit_code)
├─ ConfigError 2 ─ UnsupportedSchema      ├─ StorageError 1 ─ AlreadyExists, DigestMismatch, TierMissing,
├─ NotFound 2                             │                   StorageUnavailable
├─ MissingExtra 2                         ├─ ExternalError 4 ─ CommandFailed, CommandTimedOut, CommandMissing,
├─ Refused 3 ─ PolicyRefused              │                    UnreadableReply
└─ EvidenceMissing 3                      └─ JobFailed 1

A message says where, what was found and what is allowed; the hint says what to do. Both are one line each, except
that ConfigError joins one line per wrong key.
"""

from __future__ import annotations

from collections.abc import Sequence


class NexaError(Exception):
    """An error with a message for a person, an optional hint, and the exit code of the command that raised it."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}; {self.hint}"


class ConfigError(NexaError):
    """The request itself is wrong: a config key, an option, a name."""

    exit_code = 2


class UnsupportedSchema(ConfigError):
    """A file was written by a version of NexaCompute that this one cannot read."""


class NotFound(NexaError):
    """What was named does not exist."""

    exit_code = 2


class MissingExtra(NexaError):
    """An optional dependency is not installed."""

    exit_code = 2

    def __init__(self, extra: str, *, package: str, needed_for: str) -> None:
        super().__init__(
            f"{needed_for} needs the package {package}, which is not installed",
            hint=f"pip install 'nexa-compute[{extra}]'",
        )
        self.extra = extra


class Refused(NexaError):
    """A policy, a gate or a halt said no."""

    exit_code = 3


class PolicyRefused(Refused):
    """One or more policies refused a plan; `findings` holds one line each."""

    def __init__(self, findings: Sequence[str], *, hint: str | None = None) -> None:
        super().__init__("\n".join(findings), hint=hint)
        self.findings = tuple(findings)


class EvidenceMissing(NexaError):
    """A decision needs a record that is not there."""

    exit_code = 3


class StorageError(NexaError):
    """A tier could not be read or written."""


class AlreadyExists(StorageError):
    """Something that is written once exists already."""


class DigestMismatch(StorageError):
    """The bytes are not the ones that were recorded."""


class TierMissing(StorageError):
    """A storage tier is not there, or is not the folder that was initialised."""


class StorageUnavailable(StorageError):
    """Locked by another process, full or read-only: nothing is damaged, and the same call may succeed later."""


class ExternalError(NexaError):
    """Another program failed."""

    exit_code = 4


class CommandFailed(ExternalError):
    """A program ended with a status other than zero."""


class CommandTimedOut(ExternalError):
    """A program did not end in the time it was given."""


class CommandMissing(ExternalError):
    """A program is not installed or not on PATH."""


class UnreadableReply(ExternalError):
    """A program's output could not be understood."""


class JobFailed(NexaError):
    """The work itself failed."""
