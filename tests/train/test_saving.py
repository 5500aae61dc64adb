"""A writer's error is told as its disk's where it is; what it had written is removed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from nexa_contracts.errors import StorageError
from nexa_train.saving import find_disk_reason, saving_errors
from tests.train.training_site import Site

TORCH = "[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space left on device"),
        (OSError(errno.EROFS, "Read-only file system"), "read-only file system"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk quota exceeded"),
        (SafetensorError("Error while serializing: I/O error: No space left (os error 28)"), "no space left on device"),
        (SafetensorError("Error while deserializing header: header too large"), None),
        (RuntimeError(TORCH), "writing was cut off"),
        (RuntimeError("CUDA out of memory"), None),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), None),
    ],
)
def test_each_writers_words_for_its_disk_are_known(tmp_path: Path, error: Exception, reason: str | None) -> None:
    assert find_disk_reason(error, tmp_path) == reason


def test_the_reason_may_be_behind_another_error(tmp_path: Path) -> None:
    error = RuntimeError("saving failed")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert find_disk_reason(error, tmp_path) == "no space left on device"


def test_what_was_written_is_removed_and_the_tier_and_what_to_do_are_named(site: Site) -> None:
    job = site.job()
    folder = job.checkpoints / "checkpoint-20"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"half")
    (job.checkpoints / "checkpoint-10").mkdir()
    with pytest.raises(StorageError) as caught, saving_errors(job, lambda: folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    message = caught.value.message
    assert message.startswith(f"scratch {job.tiers.scratch}: saving checkpoint-20 failed: no space left on device (")
    assert caught.value.hint is not None
    assert caught.value.hint.endswith(f"--resume {job.run_id} then goes on from step 10")
    assert sorted(path.name for path in job.checkpoints.iterdir()) == ["checkpoint-10"]


def test_an_error_of_another_kind_and_one_while_nothing_is_saved_pass_as_they_are(site: Site) -> None:
    job = site.job()
    folder = job.checkpoints / "checkpoint-20"
    folder.mkdir(parents=True)
    with pytest.raises(RuntimeError, match="a bug"), saving_errors(job, lambda: folder):
        raise RuntimeError("a bug")
    with pytest.raises(OSError, match="No space"), saving_errors(job, lambda: None):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert folder.is_dir()
