"""A checkpoint or a model that its disk could not take: told as what it is, and what was written of it removed.

Each writer of the stack has its own words for a full disk. torch says `[enforce fail at inline_container.cc:672] .
unexpected pos 576 vs 534`, safetensors names the number of the system's error, and only Python raises it.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nexa_contracts.errors import StorageError
from nexa_contracts.units import format_size
from nexa_infra.storage.artifacts import discard_folder
from nexa_infra.storage.checkpoints import list_checkpoints
from nexa_train.job import Job

logger = logging.getLogger(__name__)

_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE})
_NUMBER = re.compile(r"\(os error (\d+)\)")
_TORCH_WRITER = re.compile(r"inline_container|PytorchStreamWriter|iostream error|failed with No space left")
_LITTLE_BYTES = 1 << 20


@contextmanager
def saving_errors(job: Job, find_folder: Callable[[], Path | None]) -> Iterator[None]:
    """Turn what a writer within raises because of its disk into a StorageError, and remove the folder it was writing.

    `find_folder` says which one that is; None while nothing is being saved. Other errors pass as they are.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        folder = find_folder()
        reason = None if folder is None else find_disk_reason(error, folder)
        if folder is None or reason is None:
            raise
        what = "the final model" if folder == job.tiers.final_temp(job.run_id) else folder.name
        message = f"scratch {job.tiers.scratch}: saving {what} failed: {reason}{_describe_room(job)}"
        if job.is_main:
            _discard(folder)
        raise StorageError(message, hint=_render_hint(job)) from error


def find_disk_reason(error: BaseException, folder: Path) -> str | None:
    """Return what is wrong with the disk, in the system's words; None when the error is of another kind."""
    at: BaseException | None = error
    while at is not None:
        number = _find_number(at)
        if number in _DISK:
            text = os.strerror(number or 0)
            return text[:1].lower() + text[1:]
        if isinstance(at, RuntimeError) and _TORCH_WRITER.search(str(at)):
            # torch keeps the reason to itself, and leaves what it wrote, so a disk that was full is full still.
            return "no space left on device" if _free_bytes(folder) < _LITTLE_BYTES else "writing was cut off"
        at = at.__cause__ or at.__context__
    return None


def _find_number(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    match = _NUMBER.search(str(error))
    return None if match is None else int(match[1])


def _free_bytes(folder: Path) -> int:
    while not folder.exists() and folder.parent != folder:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _describe_room(job: Job) -> str:
    try:
        room = shutil.disk_usage(job.tiers.scratch)
    except OSError:
        return ""
    return f" ({format_size(room.free)} of {format_size(room.total)} free)"


def _discard(folder: Path) -> None:
    try:
        discard_folder(folder)
    except StorageError as error:
        logger.warning("what was written stays, and is never used, for it is not sealed: %s", error)


def _render_hint(job: Job) -> str:
    steps = [checkpoint.step for checkpoint in list_checkpoints(job.run_id, job.tiers)]
    if not steps:
        return "free space there, and launch it again"
    return f"free space there; nexa launch FILE --resume {job.run_id} then goes on from step {steps[0]}"
