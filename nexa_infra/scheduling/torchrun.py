"""What a job entry has to know of torchrun, which starts training processes again without asking anybody."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from nexa_contracts.states import REPEATED_CRASH
from nexa_infra.launchers.crashes import RANK_MARK, find_repeated
from nexa_infra.scheduling.evidence import hide_secrets
from nexa_infra.scheduling.records import Failure
from nexa_infra.storage.run_dir import RunDir

_EVIDENCE_LINES = 3
"""Before the exception itself."""


def count_restarts(run_dir: RunDir, attempt: int) -> int:
    """Return how often torchrun started the processes of an attempt again; 0 for a program without it."""
    try:
        with run_dir.ranks(attempt).open("rb") as lines:
            return max(0, sum(1 for _ in lines) - 1)
    except OSError:
        return 0


def find_repeated_crash(
    run_dir: RunDir, attempt: int, lines: Sequence[str], *, secrets: Collection[str] = ()
) -> Failure | None:
    """Return why an attempt was ended whose exception had come at the same step before; None: it was not.

    `lines` are the last of its log, where the words of the exception stand.
    """
    note = find_repeated(run_dir, attempt)
    if note is None:
        return None
    name, step = str(note.get("exception")), note.get("step")
    told = [number for number, line in enumerate(lines) if _strip(line).startswith(name)]
    words = _strip(lines[told[-1]]) if told else name
    evidence = lines[max(0, told[-1] - _EVIDENCE_LINES) : told[-1] + 1] if told else ()
    where = "before its first step" if step is None else f"at step {step}"
    since = "in this attempt" if note.get("same_as") == attempt else f"in attempt {note.get('same_as')}"
    message = f"{words}; the same as earlier {since} {where}, so it is not tried again"
    return Failure(
        REPEATED_CRASH, hide_secrets(message, secrets), tuple(hide_secrets(line, secrets) for line in evidence)
    )


def _strip(line: str) -> str:
    return RANK_MARK.sub("", line, count=1)
