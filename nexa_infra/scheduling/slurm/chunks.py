"""The chunks of a submission on disk: what was or will be handed to Slurm as one job or array, and what came of it.

`<folder>/slurm/chunk-K.json` is written as an intent before Slurm is asked and completed with the job id after it, so
that whoever sees the folder can take the submission up again. `<folder>` is `runs/<submission>`, or a folder
`resume-<stamp>` in it.

No contract is loaded here: `nexa logs` and `nexa cancel` read chunks.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nexa_contracts.errors import StorageError
from nexa_infra.storage.atomic import append_line, make_folder, replace_file, storage_errors

SPEC_NAME = "spec.json"
FOLDER = "slurm"
"""In a submission's folder: its chunks and what Slurm itself says of its jobs."""
NO_CHUNK = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What reading a file raises that somebody has spoilt."""
_CANCELLED = "cancelled"
_RESUMPTION = "resume-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One job, or one array of them: the rows of a spec that Slurm holds, or is to hold, under one job id."""

    folder: Path
    """Of the submission; the spec and the script stand there."""
    number: int
    name: str
    """Of the job; a job id alone can be given out twice."""
    options: tuple[str, ...]
    """Of sbatch."""
    arguments: tuple[str, ...]
    """Of the script."""
    runs: Mapping[str, int]
    """Index in the spec, by run id."""
    offset: int = 0
    rows_per_task: int = 1
    is_array: bool = True
    in_turn: bool = False
    """It starts when the chunks before it have ended."""
    asked_at: str | None = None
    """When Slurm was first asked to take it; None: not yet, for lack of room."""
    job_id: str | None = None
    """None: not known to have been taken."""
    cluster: str | None = None
    """None: not known yet, or of an earlier version."""
    user_id: int | None = None
    """Of whoever hands it over; None: not written yet, or of an earlier version."""

    @property
    def path(self) -> Path:
        """The file that holds it."""
        return self.folder / FOLDER / f"chunk-{self.number}.json"

    @property
    def project_runs(self) -> Path:
        """The folder of all runs of the project."""
        return self.folder.parent.parent if self.folder.name.startswith(_RESUMPTION) else self.folder.parent

    @property
    def spec(self) -> Path:
        """The spec that its rows stand in."""
        return self.folder / SPEC_NAME

    @property
    def task_count(self) -> int:
        """Number of jobs that Slurm counts."""
        return len({index // self.rows_per_task for index in self.runs.values()})

    def task_of(self, run_id: str) -> int | None:
        """Return the array task that takes a run; None in a job that is no array."""
        return self.runs[run_id] // self.rows_per_task - self.offset if self.is_array else None

    def job_of(self, run_id: str) -> str | None:
        """Return what Slurm calls the job of a run, `123_4` in an array; None while that is not known."""
        if self.job_id is None:
            return None
        task = self.task_of(run_id)
        return self.job_id if task is None else f"{self.job_id}_{task}"

    def save(self) -> Chunk:
        """Write it down, and return it.

        Raises:
            StorageError: the disk is full, read-only or broken.
        """
        replace_file(self.path, (json.dumps(render_chunk(self), ensure_ascii=False) + "\n").encode())
        return self

    def complete(self, job_id: str) -> Chunk:
        """Write down which job it became, and return it.

        Raises:
            StorageError: the disk is full, read-only or broken.
        """
        return replace(self, job_id=job_id).save()

    def forget(self) -> None:
        """Remove what is written of a chunk that Slurm certainly does not hold.

        Raises:
            StorageError: the folder is read-only or broken.
        """
        with storage_errors(self.path, "removing"):
            self.path.unlink(missing_ok=True)


def list_chunks(folder: Path) -> list[Chunk]:
    """Return the chunks that are written in a folder, in their order.

    Raises:
        StorageError: one cannot be read.
    """
    paths = [path for path in (folder / FOLDER).glob("chunk-*.json") if path.stem.removeprefix("chunk-").isdecimal()]
    return sorted((_read(path, folder) for path in paths), key=lambda chunk: chunk.number)


def list_submission(folder: Path) -> list[Chunk]:
    """Return the chunks of a submission and of all its resumptions, oldest first.

    Raises:
        StorageError: one cannot be read.
    """
    folders = [folder, *sorted(path for path in folder.glob(f"{_RESUMPTION}*") if (path / FOLDER).is_dir())]
    return [chunk for each in folders for chunk in list_chunks(each)]


def find_chunks(project_runs: Path, run_ids: Collection[str]) -> dict[str, Chunk]:
    """Return the chunk that holds each run; one that was never to be handed to Slurm is left out.

    Raises:
        StorageError: a chunk cannot be read.
    """
    wanted = set(run_ids)
    found: dict[str, Chunk] = {}
    for folder in find_submissions(project_runs, wanted):
        for chunk in list_submission(folder):
            found.update({run_id: chunk for run_id in chunk.runs if run_id in wanted})
    return found


def find_submissions(project_runs: Path, run_ids: Collection[str]) -> list[Path]:
    """Return the folders of the submissions that these runs belong to: a run's own, or its sweep's."""
    folders: dict[Path, None] = {}
    sweeps: dict[str, Path | None] = {}
    for run_id in run_ids:
        stamp, dash, _ = run_id.partition("-")
        if not dash:
            folders[project_runs / run_id] = None
            continue
        if stamp not in sweeps:  # all runs of one launch have its stamp
            sweeps[stamp] = _find_sweep(project_runs, stamp, run_id)
        folder = sweeps[stamp]
        if folder is not None:
            folders[folder] = None
    return list(folders)


def request_cancel(folder: Path, run_ids: Sequence[str]) -> None:
    """Write down that runs of a submission are to end, before Slurm is told: their jobs then know who asked.

    Raises:
        StorageError: the disk is full, read-only or broken.
    """
    make_folder(folder / FOLDER)
    append_line(folder / FOLDER / _CANCELLED, json.dumps(list(run_ids)).encode(), flush=True)


def read_cancelled(folder: Path) -> frozenset[str]:
    """Return the runs of a submission that somebody asked to end; a line that is being written counts as none."""
    try:
        lines = (folder / FOLDER / _CANCELLED).read_bytes().splitlines()
    except FileNotFoundError:
        return frozenset()
    return frozenset(run_id for line in lines for run_id in _parse_line(line))


def render_chunk(chunk: Chunk) -> dict[str, Any]:
    """Return the object that describes a chunk, in its file and in a plan."""
    return {
        "schema_version": 1,
        "number": chunk.number,
        "name": chunk.name,
        "options": list(chunk.options),
        "arguments": list(chunk.arguments),
        "offset": chunk.offset,
        "rows_per_task": chunk.rows_per_task,
        "is_array": chunk.is_array,
        "in_turn": chunk.in_turn,
        "asked_at": chunk.asked_at,
        "job_id": chunk.job_id,
        "cluster": chunk.cluster,
        "user_id": chunk.user_id,
        "runs": dict(chunk.runs),
    }


def parse_chunk(data: Mapping[str, Any], folder: Path) -> Chunk:
    """Return the chunk that an object of its file, or of a plan, describes.

    Raises:
        NO_CHUNK: it describes none.
    """
    number, offset, rows_per_task = (int(data[name]) for name in ("number", "offset", "rows_per_task"))
    if min(number, offset, rows_per_task - 1) < 0:
        raise ValueError(f"found number {number}, offset {offset}, rows_per_task {rows_per_task}")
    return Chunk(
        folder=folder,
        number=number,
        name=str(data["name"]),
        options=tuple(map(str, data["options"])),
        arguments=tuple(map(str, data["arguments"])),
        offset=offset,
        rows_per_task=rows_per_task,
        is_array=bool(data["is_array"]),
        in_turn=bool(data["in_turn"]),
        asked_at=data["asked_at"],
        job_id=data["job_id"],
        cluster=data.get("cluster"),
        user_id=data.get("user_id"),
        runs={str(run_id): int(index) for run_id, index in data["runs"].items()},
    )


def _find_sweep(project_runs: Path, stamp: str, run_id: str) -> Path | None:
    launched = project_runs / f"sweep_{stamp.removeprefix('run_')}"
    if launched.is_dir():
        return launched
    try:  # the run of a resumption has a stamp of its own
        sweep_id = json.loads((project_runs / "manifests" / f"{run_id}.json").read_bytes())["sweep_id"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return project_runs / sweep_id if isinstance(sweep_id, str) and "/" not in sweep_id else None


def _parse_line(line: bytes) -> Iterator[str]:
    try:
        found = json.loads(line)
    except ValueError:
        return
    yield from (text for text in found if isinstance(text, str)) if isinstance(found, list) else ()


def _read(path: Path, folder: Path) -> Chunk:
    try:
        return parse_chunk(json.loads(path.read_bytes()), folder)
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error
    except NO_CHUNK as error:
        raise StorageError(
            f"{path}: not a chunk of a submission: {type(error).__name__}: {error}",
            hint="it says which jobs Slurm holds: restore it; without it, runs could start twice",
        ) from error
