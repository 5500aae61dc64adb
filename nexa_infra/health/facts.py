"""What the nodes of one training must have in common, read on each of them."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from nexa_contracts.base import digest_json
from nexa_contracts.errors import StorageError
from nexa_contracts.health import GpuReading

_SKIPPED = frozenset({"__pycache__", ".git"})
_CHUNK = 1024**2
_INSTALLED = re.compile(r"([^-]+)(?:-(.+))?\.(?:dist|egg)-info")


def digest_environment(search: Sequence[str] | None = None) -> str:
    """Return the SHA-256 over Python's version and the names and versions of the packages on the search path.

    Names and versions are those in the names of the installers' folders. Reading each package's own record, as
    importlib.metadata does, takes 0.1 to 0.8 s for 150 packages, and every start would wait for it.

    Source: https://packaging.python.org/en/latest/specifications/recording-installed-packages/
    """
    packages: dict[str, str] = {}
    for folder in sys.path if search is None else search:
        try:
            names = sorted(os.listdir(folder or "."))  # noqa: PTH208 - no path is wanted
        except OSError:
            continue  # an archive, or a folder that is not there; Python passes it over too
        for name in names:
            if match := _INSTALLED.fullmatch(name):
                packages.setdefault(match[1].lower(), match[2] or "")  # the first is imported
    return digest_json({"python": platform.python_version(), "machine": platform.machine(), "packages": packages})


def digest_folder(folder: Path) -> str:
    """Return the SHA-256 over the names, kinds and contents of all files below a folder, caches left out.

    Raises:
        StorageError: it is not there, or cannot be read.
    """
    whole = hashlib.sha256()
    try:
        for path in sorted(_walk(folder), key=lambda path: path.as_posix()):
            name = path.relative_to(folder).as_posix()
            whole.update(f"{name}\0{_digest_file(path)}\0".encode(errors="surrogateescape"))
    except OSError as error:
        reason = str(error.strerror or error).lower()
        raise StorageError(f"{error.filename or folder}: reading the code failed: {reason}") from error
    return whole.hexdigest()


def list_vbios(gpus: Sequence[GpuReading]) -> tuple[str, ...]:
    """Return the versions of the GPUs' firmware, each once, sorted."""
    return tuple(sorted({gpu.vbios for gpu in gpus if gpu.vbios}))


def _walk(folder: Path) -> list[Path]:
    folder.stat()  # a folder that is not there is an error, and not an empty one
    found = []
    for place, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if name not in _SKIPPED]
        linked = [name for name in folders if (Path(place) / name).is_symlink()]
        found += [Path(place) / name for name in [*names, *linked] if not name.endswith(".pyc")]
    return found


def _refuse(error: OSError) -> None:
    raise error


def _digest_file(path: Path) -> str:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return f"link {path.readlink()}"
    if not stat.S_ISREG(mode):
        return "neither file nor link"
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
