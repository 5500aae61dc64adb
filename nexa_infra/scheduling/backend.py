"""What every backend offers: render a launch as data, submit it, say how it goes, end it, show its log."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import JsonValue

from nexa_contracts.job import JobHandle, JobSpec, LaunchPlan, SpecEntry
from nexa_contracts.resources import Resources
from nexa_contracts.site import SiteConfig
from nexa_contracts.states import JobState

SPEC_FILE = "spec.json"
"""Name of the spec inside the folder of a submission, `runs/<submission>/`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRequest:
    """One submission: a run, or the runs of a sweep that are to be (re)submitted together."""

    submission: str
    """Run id or sweep id."""
    entries: Mapping[int, SpecEntry]
    """By array index: the member's number in its sweep (0 for a single run); gaps are fine. Commands are wrapped by
    the launcher already."""
    resources: Resources
    """What each run asks; the same for all runs of one submission."""
    launcher: str = "python"
    max_parallel: int | None = None
    """At most so many runs at a time, of all submissions with this name: those of a sweep and its resumptions."""
    folder: Path | None = None
    """Where the plan's files will stand; None: `runs/<submission>`."""
    indices: Sequence[int] = ()
    """Of all its runs, where `entries` has the first ones only, to be shown."""


class Backend(Protocol):
    """Where jobs run.

    Every backend guarantees: a handle per run, in rising index order; `submit` of a plan whose runs it already holds
    submits nothing again and returns the same handles; a state it cannot learn is UNKNOWN; nothing here writes to a
    run's folder or its manifests except the job itself and the backend's own settling of jobs that died silently.
    Calls may come from any process, at the same time.
    """

    name: str

    def plan(self, request: LaunchRequest, site: SiteConfig) -> LaunchPlan:
        """Return everything `submit` would do, as data; touches nothing, and is equal at every call.

        Paths of the plan's files are relative to the submission's folder, `runs/<submission>/`.

        Raises:
            ConfigError: the request can never run on such a backend.
        """
        ...

    def check_fits(self, resources: Resources, site: SiteConfig) -> None:
        """Return if a job of this size can ever run here; asked before anything of a launch is written.

        Raises:
            ConfigError: it cannot; the message says what it asks for and what there is.
            ExternalError: whoever knows what there is does not answer.
        """
        ...

    def submit(self, plan: LaunchPlan, directory: Path) -> tuple[JobHandle, ...]:
        """Hand over a plan whose files already stand in `directory`, and return a handle per run.

        Raises:
            NotFound: a file of the plan does not stand in `directory`.
            ConfigError: the jobs can never run here: too large for the machine, or a named secret is set nowhere.
            StorageError: the backend's own records cannot be written.
            ExternalError: the scheduler did not take it.
        """
        ...

    def states(self, handles: Sequence[JobHandle]) -> dict[JobHandle, JobState]:
        """Return the state of every handle, by one query for all of them; UNKNOWN where nothing is known.

        Raises:
            StorageError, ExternalError: the backend cannot be asked; nothing is said about any job.
        """
        ...

    def cancel(self, handles: Sequence[JobHandle]) -> None:
        """Ask for the end of the jobs and return at once; safe to repeat, and does nothing to an ended job."""
        ...

    def logs(self, handle: JobHandle, *, follow: bool = False) -> Iterator[str]:
        """Return the lines of a job's log over all its attempts, without line ends.

        With `follow` the lines keep coming until the job ends, across attempts.

        Raises:
            NotFound: the backend does not know the job.
        """
        ...


def render_spec(request: LaunchRequest) -> str:
    """Return the text of `spec.json`: a line for each run, by decimal array index, in rising order.

    Entries are made one at a time and only their text is kept: a sweep may have 100,000.
    """
    common: dict[str, JsonValue] = {}
    first: SpecEntry | None = None
    render = json.JSONEncoder(ensure_ascii=False).encode
    lines: list[str] = []
    for index in sorted(request.entries):
        entry = request.entries[index]
        if first is None:
            first = entry
            common = entry.model_dump(mode="json", exclude={"point"})
        # A point is never common: 1, 1.0 and true are equal, and not the same.
        shared = vars(first)
        own = {name for name, value in vars(entry).items() if name == "point" or value != shared[name]}
        lines.append(f'    "{index}": {render(entry.model_dump(mode="json", include=own))}')
    head = JobSpec(submission=request.submission, common=common, entries={}).to_json().removesuffix("{}\n}\n")
    return "".join([head, "{\n", ",\n".join(lines), "\n  }\n}\n"])
