"""A request as chunks for Slurm, each a job or an array with its options; pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexa_contracts.errors import ConfigError, NotFound
from nexa_contracts.ids import is_run_id
from nexa_contracts.resources import Resources
from nexa_contracts.site import SlurmSite
from nexa_infra.scheduling.backend import LaunchRequest
from nexa_infra.scheduling.entry import inherit_environment
from nexa_infra.scheduling.slurm.chunks import FOLDER, NO_CHUNK, SPEC_NAME, Chunk, parse_chunk, render_chunk
from nexa_infra.scheduling.slurm.options import render_options, render_warning
from nexa_infra.scheduling.slurm.windows import Window, parse_array, plan_windows

BATCH_NAME = "slurm.json"
"""In the folder of a submission: its chunks as they were planned."""
_OF_THIS_MACHINE = frozenset({"TMPDIR", "TEMP", "TMP", "XDG_RUNTIME_DIR", "SHELL"})
"""What every program inherits here, and what a node has of its own."""
_PARTS = 8
"""Arrays that together are as large as `slurm.max_submitted`: each is handed over as soon as there is room for it."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A submission as it is handed to Slurm."""

    chunks: tuple[Chunk, ...]
    secrets: tuple[str, ...]
    """Names of variables that go with it."""
    max_submitted: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What chunks depend on besides the request."""

    folder: Path
    """Where the spec and the script will stand."""
    site: SlurmSite
    max_array_size: int
    cluster: str | None
    """Its name where that is known."""
    python: str
    environment: Mapping[str, str]


def plan_batch(request: LaunchRequest, spec: str, around: Surroundings) -> Batch:
    """Return the chunks of a request whose spec has that text.

    Raises:
        ConfigError: a value of the site or the resources is none that Slurm takes.
    """
    found = json.loads(spec)
    rows = {int(index): {**found["common"], **own} for index, own in found["entries"].items()}
    secrets = tuple(sorted({name for row in rows.values() for name in row["secrets"]}))
    planner = _Planner(request, around, rows, (*_exported(around.environment), *secrets))
    chunks: list[Chunk] = []
    for resources, indices in planner.group_by_resources().items():
        for window in planner.plan_windows(indices):
            chunks.append(planner.describe(resources, window, number=len(chunks)))
    return Batch(tuple(chunks), secrets, around.site.max_submitted)


def render_batch(batch: Batch) -> str:
    """Return the text of a batch's file."""
    data = {
        "schema_version": 1,
        "secrets": list(batch.secrets),
        "max_submitted": batch.max_submitted,
        "chunks": [render_chunk(chunk) for chunk in batch.chunks],
    }
    return json.dumps(data, ensure_ascii=False) + "\n"


def read_batch(folder: Path) -> Batch:
    """Return the batch whose file stands in a folder.

    Raises:
        NotFound: there is none.
        ConfigError: the file is none.
    """
    path = folder / BATCH_NAME
    try:
        found = json.loads(path.read_bytes())
        chunks = tuple(parse_chunk(each, folder) for each in found["chunks"])
        most = found["max_submitted"]
        return Batch(chunks, tuple(map(str, found["secrets"])), None if most is None else int(most))
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such file", hint="write the plan's files before it is submitted") from error
    except (OSError, *NO_CHUNK) as error:
        raise ConfigError(f"{path}: not the plan of a submission: {type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class _Planner:
    request: LaunchRequest
    around: Surroundings
    rows: Mapping[int, Mapping[str, Any]]
    """Of the spec, by index."""
    exported: tuple[str, ...]

    def group_by_resources(self) -> dict[Resources, list[int]]:
        """Return which indices ask for what: an array asks the same for each of its tasks."""
        groups: dict[str, list[int]] = {}
        keys: dict[int, str] = {}
        for index in self.request.indices or sorted(self.rows):
            asked = self.rows[index]["resources"] if index in self.rows else None
            if id(asked) not in keys:  # what is common to the rows is one object
                keys[id(asked)] = next(iter(groups)) if asked is None else json.dumps(asked, sort_keys=True)
            groups.setdefault(keys[id(asked)], []).append(index)
        return {Resources.model_validate_json(key): indices for key, indices in groups.items()}

    def plan_windows(self, indices: Sequence[int]) -> Sequence[Window]:
        """Return the arrays that hold these rows; a single run is none."""
        if is_run_id(self.request.submission):
            return (Window(number=0, offset=0, array="", rows=1),)
        site = self.around.site
        return plan_windows(
            indices,
            max_array_size=self.around.max_array_size,
            rows_per_task=site.rows_per_task,
            max_parallel=self.request.max_parallel,
            max_tasks=self._most_tasks,
        )

    @property
    def _most_tasks(self) -> int | None:
        # An array as large as the limit would wait for an empty queue. Where arrays take turns, one is all that runs.
        most, wanted = self.around.site.max_submitted, self.request.max_parallel
        if most is None:
            return None
        at_once = 0 if wanted is None or not self._is_in_turn else min(wanted, most // 2)
        return max(1, most // _PARTS, at_once)

    @property
    def _is_in_turn(self) -> bool:
        # What may be submitted at all may run: a limit on the queue that is no larger does it alone.
        most, wanted = self.around.site.max_submitted, self.request.max_parallel
        return wanted is not None and (most is None or wanted < most)

    def describe(self, resources: Resources, window: Window, *, number: int) -> Chunk:
        """Return one chunk, ready to be handed over."""
        request, around = self.request, self.around
        is_array, each = bool(window.array), around.site.rows_per_task if window.array else 1
        tasks = set(parse_array(window.array)) if is_array else {0}
        runs = {row["run_id"]: index for index, row in self.rows.items() if index // each - window.offset in tasks}
        name = _name_job(request.submission, around.folder) + (f".c{number}" if is_array else "")
        walltime_s = math.ceil(each * resources.walltime_s)  # one row after another: a task may take as long as all
        options = render_options(
            resources.model_copy(update={"walltime": f"{walltime_s}s"}),
            around.site,
            job_name=name,
            output=f"{FOLDER}/{'%A_%a' if is_array else '%j'}.out",
            export=self.exported,
            array=window.array or None,
        )
        return Chunk(
            folder=around.folder,
            number=number,
            name=name,
            options=options,
            arguments=(
                around.python,
                str(around.folder / SPEC_NAME),
                str(window.offset),
                str(each),
                render_warning(around.site, walltime_s),  # the job must know which of its signals that is
            ),
            runs=runs,
            offset=window.offset,
            rows_per_task=each,
            is_array=is_array,
            in_turn=self._is_in_turn,
            cluster=around.cluster,
        )


def _name_job(submission: str, folder: Path) -> str:
    return submission if folder.name == submission else f"{submission}.{folder.name}"


def _exported(environment: Mapping[str, str]) -> list[str]:
    return sorted(name for name in inherit_environment(environment) if name not in _OF_THIS_MACHINE)
