"""The lock of a study's journal: a symbolic link beside it, the same that Optuna's own programs make and respect.

Optuna's own class watches such a link through the link, by the time of the journal: it takes a lock that was only just
made for one that is old, and waits for ever for one whose target is no path from where the link stands (as
optuna-dashboard makes it, given a relative path). This one watches the link itself.
"""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path

from nexa_contracts.clock import Clock

LONGEST_S = 30.0
"""A lock is held for milliseconds. Whose link stays as it is for so long was killed, and it is taken away; as long as
Optuna's own programs wait."""
_FIRST_PAUSE_S = 0.001
_LONGEST_PAUSE_S = 1.0
_Identity = tuple[int, int]


class JournalLock:
    """Keeps others out of a journal, on NFS too; every holder is another link."""

    def __init__(self, journal: Path, *, clock: Clock) -> None:
        self._journal = journal
        self._link = journal.with_name(f"{journal.name}.lock")
        self._clock = clock
        self._ours: _Identity | None = None

    def acquire(self) -> bool:
        """Return True once nobody else holds the journal and its last line is whole.

        Raises:
            OSError: the folder or the journal cannot be written.
        """
        seen: _Identity | None = None
        since_s, pause_s = self._clock.monotonic_s(), _FIRST_PAUSE_S
        while not self._make():
            found = _identify(self._link)
            if found != seen:
                seen, since_s, pause_s = found, self._clock.monotonic_s(), _FIRST_PAUSE_S
            elif found is not None and self._clock.monotonic_s() - since_s >= LONGEST_S:
                self._remove(found)
                continue
            self._clock.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        try:
            mend_tail(self._journal)
        except BaseException:
            self.release()
            raise
        return True

    def release(self) -> None:
        """Let the next one in.

        Raises:
            RuntimeError: the lock was taken away; what was written meanwhile may have met another one's words.
        """
        ours, self._ours = self._ours, None
        if ours is None or not self._remove(ours):
            raise RuntimeError(f"its lock was taken away, as from one that holds it for {LONGEST_S:g} s")

    def _make(self) -> bool:
        try:
            self._link.symlink_to(self._journal)
        except FileExistsError:
            return False
        self._ours = _identify(self._link)
        return True

    def _remove(self, wanted: _Identity) -> bool:
        # By a name of its own first: a link can be told from another one, but not removed only if it is that one.
        aside = self._link.with_name(f"{self._link.name}{uuid.uuid4()}.rename")
        try:
            self._link.rename(aside)
        except FileNotFoundError:
            return False
        is_wanted = _identify(aside) == wanted
        if not is_wanted:
            with suppress(FileExistsError):  # of someone who was faster still
                os.link(aside, self._link, follow_symlinks=False)  # whose it is has it again
        aside.unlink(missing_ok=True)
        return is_wanted


def mend_tail(journal: Path) -> None:
    """Cut off a last line that is not whole, as a full disk or a power cut leaves one; only for whoever has its lock.

    The next line would be appended to it, and nobody could read the journal any more.
    """
    with journal.open("rb+") as stream:
        end = size = stream.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 4096)
            stream.seek(start)
            newline = stream.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            stream.truncate(end)
            os.fsync(stream.fileno())


def _identify(link: Path) -> _Identity | None:
    try:
        found = link.lstat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
