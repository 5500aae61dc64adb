"""Stdout as Unix tools have it: what cannot be written is said and is no success; a reader may leave at any time.

Loads nothing: the overview of commands goes through here too.
"""

from __future__ import annotations

import io
import os
import sys

TYPE_CHECKING = False  # typing itself takes a quarter of the overview's time
if TYPE_CHECKING:
    from typing import Any

_STDOUT = 1


class _Output(io.FileIO):
    """Ends the process when it cannot be written, wherever that is noticed: no caller has a use for the error."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            from nexa_contracts.exit_codes import CommandExit

            status = CommandExit.READER_GONE if isinstance(error, BrokenPipeError) else CommandExit.FAILED
            if status is CommandExit.FAILED:
                sys.stderr.write(f"nexa: stdout cannot be written: {str(error.strerror).lower()}\n")
            # What is left in buffers is flushed once more when the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)
            raise SystemExit(int(status)) from error


def watch_stdout() -> None:
    """Replace `sys.stdout` by one that ends the process when it cannot be written."""
    before = sys.stdout
    if before is None:
        _fill_closed()
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Output(_STDOUT, "w", closefd=False)),
        encoding="utf-8" if before is None else before.encoding,
        errors="replace" if before is None else before.errors,
        line_buffering=before is not None and before.isatty(),
    )


def _fill_closed() -> None:
    # A file that is opened later would get the number 1, and be printed into.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDOUT:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
