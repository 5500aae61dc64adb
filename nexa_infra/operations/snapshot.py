"""The code a run is given: which commit, what was changed, and a copy that a later edit cannot reach.

A snapshot is named by the digest over the names, modes and contents of its files, so equal code is stored once.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nexa_contracts.errors import AlreadyExists, ConfigError, EvidenceMissing
from nexa_contracts.run import CodeRecord
from nexa_contracts.units import format_size
from nexa_infra.operations.checkout import Checkout, list_tracked, read_checkout
from nexa_infra.operations.secret_files import is_secret_file
from nexa_infra.process import CommandRunner
from nexa_infra.storage.atomic import create_file, fsync_dir
from nexa_infra.storage.layout import Project, Tiers

if TYPE_CHECKING:
    import tarfile

MAX_FILE_BYTES = 10 * 1024**2
MAX_TOTAL_BYTES = 256 * 1024**2
MAX_FILES = 20_000
_FLUSHERS = 16
_SKIPPED_FOLDERS = frozenset(
    {".git", ".venv", "venv", "__pycache__", "node_modules", "runs", "storage", "data", "build", "dist", ".tox",
     ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "wandb", "mlruns"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """One file of a snapshot: its path from the root, its mode and its content or link target."""

    path: str
    mode: int
    sha256: str
    size_bytes: int
    is_link: bool


@dataclass(frozen=True, slots=True)
class CodeState:
    """What of the project's code there is to keep, read but not yet written anywhere."""

    root: Path
    record: CodeRecord
    files: tuple[SnapshotFile, ...]


def read_code(root: Path, *, runner: CommandRunner, without: Sequence[Path] = ()) -> CodeState:
    """Return the state of the code under a root: git's view of it, and the digest its snapshot will have.

    `without` are folders that hold no code wherever they lie: the storage tiers, in which older snapshots stand.

    Raises:
        ConfigError: the folder is too large to be a project.
    """
    inner = [str(folder.relative_to(root)) for folder in without if folder != root and folder.is_relative_to(root)]
    names = list_tracked(root, runner, without=inner)
    files, left_out = _read_files(root, names if names is not None else _walk(root, without=inner))
    checkout = Checkout() if names is None else read_checkout(root, runner, without=inner)
    record = CodeRecord(
        commit=checkout.commit,
        branch=checkout.branch,
        is_dirty=checkout.is_dirty,
        diff_sha256=checkout.diff_sha256,
        snapshot=_digest(files),
        snapshot_files=len(files),
        snapshot_bytes=sum(file.size_bytes for file in files),
        # A name need not be text; the record must be.
        left_out=tuple(os.fsencode(name).decode(errors="replace") for name in left_out),
    )
    return CodeState(root=root, record=record, files=tuple(files))


def write_snapshot(state: CodeState, project: Project, tiers: Tiers, *, taken_for: str | None = None) -> Path:
    """Write a snapshot to durable and unpack it beside the runs; return the unpacked folder.

    Safe to repeat, and from several processes at once: the first complete copy wins.

    Raises:
        EvidenceMissing: a file changed while it was being read; launch again.
    """
    archive = tiers.snapshot(state.record.snapshot)
    if not archive.exists():
        body = _pack(state)
        if not archive.exists():
            record = state.record.model_copy(update={"taken_for": taken_for})
            create_file_once(tiers.snapshot_record(state.record.snapshot), record.model_dump_json(indent=2).encode())
            create_file_once(archive, body)
    return unpack_snapshot(state.record.snapshot, project, tiers)


def unpack_snapshot(digest: str, project: Project, tiers: Tiers) -> Path:
    """Return the folder of an unpacked snapshot, unpacking it from durable when it is not there.

    Raises:
        EvidenceMissing: durable does not hold it, or its content is not what its name says.
    """
    folder = project.snapshot(digest)
    if folder.is_dir():
        return folder
    import tempfile

    archive = tiers.snapshot(digest)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{digest[:16]}.", dir=folder.parent))
    try:
        with _open_archive(archive, digest) as tar:
            tar.extractall(temporary, filter="data")
        names = sorted(str(path.relative_to(temporary)) for path in temporary.rglob("*") if not _is_folder(path))
        files, _ = _read_files(temporary, names)
        if _digest(files) != digest:
            raise EvidenceMissing(f"{archive}: the snapshot's content does not match its digest {digest[:16]}")
        _flush(temporary)
        temporary.rename(folder)
        fsync_dir(folder.parent)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def describe_snapshot(digest: str, tiers: Tiers, *, like: CodeRecord) -> CodeRecord:
    """Return the record of a snapshot on durable: `like` when it is that one, else as it was when it was taken.

    Where no record of that is left, its commit is not known.

    Raises:
        EvidenceMissing: durable does not hold it, or it is damaged.
    """
    if digest == like.snapshot:
        return like
    with _open_archive(tiers.snapshot(digest), digest) as tar:
        sizes = [info.size for info in tar.getmembers()]
    return _find_record(digest, tiers) or CodeRecord(
        snapshot=digest, snapshot_files=len(sizes), snapshot_bytes=sum(sizes)
    )


def _find_record(digest: str, tiers: Tiers) -> CodeRecord | None:
    try:
        return CodeRecord.model_validate_json(tiers.snapshot_record(digest).read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def create_file_once(path: Path, body: bytes) -> None:
    """Create a content-addressed file; one that is there already has the same content."""
    try:
        create_file(path, body)
    except AlreadyExists:
        return


@contextmanager
def _open_archive(archive: Path, digest: str) -> Iterator[tarfile.TarFile]:
    import gzip  # 10 ms with the others, and the snapshot of most launches stands already
    import tarfile
    import zlib

    try:
        with tarfile.open(archive, "r:gz") as tar:
            yield tar
    except FileNotFoundError as error:
        raise EvidenceMissing(f"the code snapshot {digest[:16]} is not on durable ({archive})") from error
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise EvidenceMissing(f"{archive}: the code snapshot is damaged: {error}") from error


def _digest(files: Sequence[SnapshotFile]) -> str:
    listing = "".join(f"{file.mode:o} {file.sha256} {file.path}\0" for file in files)
    return hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()


def _read_files(root: Path, names: Sequence[str]) -> tuple[list[SnapshotFile], list[str]]:
    files: list[SnapshotFile] = []
    left_out: list[str] = []
    total = 0
    for name in sorted(set(names)):
        path = root / name
        try:
            info = path.lstat()
        except FileNotFoundError:
            continue  # deleted but still in git's list
        if stat.S_ISLNK(info.st_mode):
            target = str(path.readlink())
            if target.startswith("/") or ".." in Path(target).parts:
                left_out.append(name)
                continue
            body, mode = os.fsencode(target), 0o120777
        elif stat.S_ISDIR(info.st_mode):
            left_out.append(name)  # a submodule, or a checkout of its own
            continue
        elif not stat.S_ISREG(info.st_mode):
            continue
        elif info.st_size > MAX_FILE_BYTES or is_secret_file(name):
            left_out.append(name)
            continue
        else:
            body, mode = _read(path), 0o755 if info.st_mode & 0o100 else 0o644
        total += len(body)
        if total > MAX_TOTAL_BYTES or len(files) >= MAX_FILES:
            raise ConfigError(
                f"{root}: more than {format_size(MAX_TOTAL_BYTES)} or {MAX_FILES} files of code to keep",
                hint="put nexa.yaml into the project's own folder, or ignore data in .gitignore",
            )
        digest = hashlib.sha256(body).hexdigest()
        files.append(SnapshotFile(name, mode, digest, len(body), stat.S_ISLNK(info.st_mode)))
    return files, left_out


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise EvidenceMissing(f"{path}: the file vanished while it was being read", hint="launch again") from error
    except OSError as error:
        raise EvidenceMissing(
            f"{path}: cannot be read: {error.strerror}", hint="a snapshot holds all code: make it readable or ignore it"
        ) from error


def _pack(state: CodeState) -> bytes:
    import gzip
    import tarfile

    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, compresslevel=6) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for file in state.files:
            _add(tar, state.root, file)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, root: Path, file: SnapshotFile) -> None:
    import tarfile

    info = tarfile.TarInfo(file.path)
    path = root / file.path
    if file.is_link:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, str(path.readlink()), 0o777
        tar.addfile(info)
        return
    body = _read(path)
    if hashlib.sha256(body).hexdigest() != file.sha256:
        raise EvidenceMissing(f"{path}: the file changed while it was being read", hint="launch again")
    info.size, info.mode = len(body), file.mode
    tar.addfile(info, io.BytesIO(body))


def _walk(root: Path, *, without: Sequence[str]) -> list[str]:
    names: list[str] = []
    skipped = {root / folder for folder in without}
    for folder, subfolders, found in os.walk(root):
        inner = (name for name in subfolders if name not in _SKIPPED_FOLDERS and Path(folder, name) not in skipped)
        subfolders[:] = sorted(inner)
        names.extend(os.path.relpath(os.path.join(folder, name), root) for name in found)  # noqa: PTH118
        if len(names) > MAX_FILES * 2:
            break
    return names


def _flush(folder: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    # A power cut must not leave a folder of this name with empty files: it is taken for the code from then on.
    def flush(path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    with ThreadPoolExecutor(_FLUSHERS) as pool:
        for _ in pool.map(flush, [path for path in [folder, *folder.rglob("*")] if not path.is_symlink()]):
            pass


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
