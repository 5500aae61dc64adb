"""Taking up submissions to Slurm that were left: answers that were lost, and what there was no room for."""

from __future__ import annotations

from collections.abc import Sequence

from nexa_infra.operations.backends import site_slurm_backend
from nexa_infra.operations.context import Context
from nexa_infra.operations.live import newest_members
from nexa_infra.operations.progress import read_object
from nexa_infra.scheduling.slurm.chunks import FOLDER


def find_backend(context: Context, sweep_id: str) -> str:
    """Return the backend that the newest run of a sweep was launched on; the site's when the sweep has no run yet."""
    newest = max(newest_members(context.project, sweep_id).values(), default=None)
    if newest is None:
        return context.site.backend
    return str(read_object(context.project.manifest(newest)).get("backend", context.site.backend))


def hand_over_rest(context: Context, submissions: Sequence[str]) -> int:
    """Hand over what is left of submissions to Slurm, each of it once; return how many runs that were.

    Raises:
        StorageError: what was handed over cannot be read or written.
        ExternalError: Slurm refused, or does not answer.
        ConfigError: a named secret is set nowhere.
    """
    waiting = [name for name in submissions if _was_handed_over(context, name)]
    if not waiting:
        return 0
    backend = site_slurm_backend(context)
    return sum(backend.hand_over_rest(name) for name in waiting)


def _was_handed_over(context: Context, submission: str) -> bool:
    folder = context.project.run(submission)
    return any(path.is_dir() for path in (folder / FOLDER, *folder.glob(f"resume-*/{FOLDER}")))
