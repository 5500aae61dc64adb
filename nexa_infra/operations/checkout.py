"""What git says of a project's folder: its files, its commit, and what was changed since."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nexa_contracts.errors import ExternalError
from nexa_infra.process import CommandRunner

_TIMEOUT_S = 60.0
_CODE_ONLY = ("--", ".", ":(exclude)runs")
"""The manifests under runs/ are tracked by git but are no code: a run must not change the next one's snapshot. Nor may
what runs leave in storage tiers inside the checkout, which are left out by name.
"""


@dataclass(frozen=True, slots=True)
class Checkout:
    """The state of a checkout; None where git does not say."""

    commit: str | None = None
    branch: str | None = None
    is_dirty: bool | None = None
    diff_sha256: str | None = None
    """Of the changes and the list of changed files; None when there are none."""


def list_tracked(root: Path, runner: CommandRunner, *, without: Sequence[str] = ()) -> list[str] | None:
    """Return the paths below a folder that git tracks or would; None when the folder is in no checkout.

    `without` names folders below it, relative to it, that hold no code.

    Raises:
        ExternalError: git cannot list them.
    """
    try:
        if _find_line(root, runner, "rev-parse", "--show-toplevel") is None:
            return None
    except ExternalError:
        return None  # no git, or one that hangs: the folder is walked instead
    argv = _argv(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", *_code_only(without))
    listed = runner.run(argv, timeout_s=_TIMEOUT_S).require_success().raw
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


def read_checkout(root: Path, runner: CommandRunner, *, without: Sequence[str] = ()) -> Checkout:
    """Return commit, branch and changes of the checkout a folder is in; changes in `without` do not count.

    Raises:
        ExternalError: git ran too long.
    """
    code = _code_only(without)
    commit = _find_line(root, runner, "rev-parse", "--verify", "--quiet", "HEAD")
    branch = _find_line(root, runner, "symbolic-ref", "--quiet", "--short", "HEAD")
    status = _find(root, runner, "status", "--porcelain=v1", "-z", "--untracked-files=normal", *code)
    if not status:
        return Checkout(commit, branch, is_dirty=None if status is None else False)
    changes = _find(root, runner, "diff", "--binary", "HEAD", *code) if commit is not None else b""
    digest = None if changes is None else hashlib.sha256(changes + b"\0" + status).hexdigest()
    return Checkout(commit, branch, is_dirty=True, diff_sha256=digest)


def _code_only(without: Sequence[str]) -> tuple[str, ...]:
    return (*_CODE_ONLY, *(f":(exclude,literal){folder}" for folder in without))


def _find_line(root: Path, runner: CommandRunner, *arguments: str) -> str | None:
    return (_find(root, runner, *arguments) or b"").decode(errors="replace").strip() or None


def _find(root: Path, runner: CommandRunner, *arguments: str) -> bytes | None:
    done = runner.run(_argv(root, *arguments), timeout_s=_TIMEOUT_S)
    return done.raw if done.returncode == 0 else None


def _argv(root: Path, *arguments: str) -> list[str]:
    # Without optional locks: `git status` would write the checkout's index, and a dry run writes nothing.
    return ["git", "--no-optional-locks", "-C", str(root), *arguments]
