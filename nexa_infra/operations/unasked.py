"""Members of a sweep that were written and never submitted: told apart from what a backend has lost, ended on record.

No contract is loaded here: `nexa status` and `nexa cancel` start fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from nexa_contracts.states import JobState
from nexa_infra.operations.progress import read_object
from nexa_infra.scheduling.slurm.chunks import FOLDER, SPEC_NAME
from nexa_infra.storage.layout import Project

if TYPE_CHECKING:
    from nexa_infra.operations.context import Context
    from nexa_infra.operations.status import LiveStates
    from nexa_infra.scheduling.entry import Entry

_RESUMPTION = "resume-"
_STAMP = len("20251030_213000_k3f9")
_CANCELLED = "cancelled"
"""Claims a run in the place of a job's name."""


def find_unasked(project: Project, run_ids: Sequence[str]) -> dict[str, str]:
    """Return the sweep of each of these runs, which no backend knows, that no backend was ever asked to take.

    Where anything was submitted since it was written, it may have been among that, and is not one of them.
    """
    sweeps: dict[str, str | None] = {}
    found: dict[str, str] = {}
    for run_id in run_ids:
        stamp = _stamp(run_id)
        if stamp not in sweeps:
            sweeps[stamp] = _find_sweep(project, run_id)
        sweep_id = sweeps[stamp]
        if sweep_id is not None and not _has_begun(project, run_id):
            found[run_id] = sweep_id
    return found


def end_unasked(context: Context, run_ids: Sequence[str], *, live: LiveStates) -> frozenset[str]:
    """Record the end, as cancelled, of those of these runs that were never submitted; return which.

    What is submitted at this moment is waited for, and left to its backend.

    Raises:
        StorageError: a launch of the sweep goes on and does not come to its end, or nothing can be written.
        ConfigError, NotFound: the spec that was written for a run cannot be read.
    """
    from nexa_infra.operations.sweep_lock import hold_sweep

    ended: set[str] = set()
    wanted = sorted(find_unasked(context.project, run_ids).items(), key=lambda item: (item[1], item[0]))
    for sweep_id, members in groupby(wanted, key=lambda item: item[1]):
        with hold_sweep(context, sweep_id):
            still = list(find_unasked(context.project, [run_id for run_id, _ in members]))
            held = live(still)
            ended.update(_end(context, sweep_id, [run_id for run_id in still if run_id not in held]))
    return frozenset(ended)


def _find_sweep(project: Project, run_id: str) -> str | None:
    # What was written together was submitted together: one look for all of it.
    sweep_id = read_object(project.manifest(run_id)).get("sweep_id")
    if not isinstance(sweep_id, str):
        return None
    folder, stamp = project.run(sweep_id), _stamp(run_id)
    # It may have been submitted later, under its own id, by a resumption.
    later = [path for path in folder.glob(f"{_RESUMPTION}*") if path.name.removeprefix(_RESUMPTION) >= stamp]
    own = [folder] if _stamp(sweep_id) == stamp else []
    return None if any(map(_was_asked, (*own, *later))) else sweep_id


def _was_asked(folder: Path) -> bool:
    return (folder / "submission.json").exists() or next((folder / FOLDER).glob("chunk-*.json"), None) is not None


def _has_begun(project: Project, run_id: str) -> bool:
    run_dir = project.run_dir(run_id)
    return any(sign.exists() for sign in (project.outcome(run_id), run_dir.attempts))


def _end(context: Context, sweep_id: str, run_ids: Sequence[str]) -> list[str]:
    from nexa_infra.scheduling.entry import read_entries

    ended: list[str] = []
    for stamp, group in groupby(sorted(run_ids), key=_stamp):
        folder = context.project.run(sweep_id)
        spec = (folder if stamp == _stamp(sweep_id) else folder / f"{_RESUMPTION}{stamp}") / SPEC_NAME
        indices = {run_id: int(run_id.rpartition("-")[2]) for run_id in group}
        entries = read_entries(spec, list(indices.values()))
        ended += [run_id for run_id, index in indices.items() if _end_one(context, entries[index])]
    return ended


def _end_one(context: Context, entry: Entry) -> bool:
    from nexa_infra.scheduling.fence import Owner, claim_run
    from nexa_infra.scheduling.records import Attempt, Failure, record_outcome

    # Whoever claims it is the only one who may run it, should a job of it turn up after all.
    ours = Owner(cluster="", job_id="", name=_CANCELLED)
    if claim_run(entry.run_dir, ours, clock=context.clock) != ours:
        return False
    now = context.clock.now()
    last = Attempt(
        run_id=entry.run_id,
        number=0,
        state=JobState.CANCELLED,
        started_at=now,
        ended_at=now,
        seconds=0.0,
        failure=Failure("cancelled", "cancelled on request before it was submitted"),
    )
    return record_outcome(entry, last, attempts=0)


def _stamp(text: str) -> str:
    # Of a run's id and of a sweep's.
    return text.partition("_")[2][:_STAMP]
