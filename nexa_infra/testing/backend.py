"""A backend in memory whose jobs end when a test says so, and what every backend promises."""

# ruff: noqa: S101 - contract tests assert, wherever they live

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nexa_contracts.errors import ConfigError, NotFound
from nexa_contracts.job import JobHandle, JobSpec, LaunchPlan, PlannedFile, SpecEntry
from nexa_contracts.resources import Resources
from nexa_contracts.site import SiteConfig
from nexa_contracts.states import JobState
from nexa_infra.scheduling.backend import SPEC_FILE, Backend, LaunchRequest, render_spec
from nexa_infra.storage.layout import Project

STAMP = "20260102_030405_k3f9"


@dataclass(slots=True)
class FakeJob:
    """A job of the FakeBackend; a test moves its state and writes its log."""

    run_id: str
    state: JobState = JobState.PENDING
    lines: list[str] = field(default_factory=list)


class FakeBackend:
    """Holds jobs in memory. Nothing runs: `start` and `end` say what happened."""

    name = "fake"

    def __init__(self) -> None:
        self.jobs: dict[str, FakeJob] = {}
        self._ids: dict[tuple[str, str], str] = {}

    def start(self, run_id: str) -> None:
        """Let a waiting job run."""
        self._find(run_id).state = JobState.RUNNING

    def end(self, run_id: str, state: JobState, *, lines: Sequence[str] = ()) -> None:
        """Let a job end, having printed these lines."""
        job = self._find(run_id)
        job.lines.extend(lines)
        job.state = state

    def check_fits(self, resources: Resources, site: SiteConfig) -> None:  # noqa: ARG002 - the protocol's
        """Take any job of one node."""
        if resources.nodes != 1:
            raise ConfigError(f"resources.nodes: found {resources.nodes}; allowed: 1")

    def plan(self, request: LaunchRequest, site: SiteConfig) -> LaunchPlan:
        """Return the plan: its spec and nothing else."""
        self.check_fits(request.resources, site)
        return LaunchPlan(
            backend=self.name,
            launcher=request.launcher,
            submission=request.submission,
            job_count=len(request.entries),
            resources=request.resources,
            files=(PlannedFile(path=SPEC_FILE, text=render_spec(request)),),
            commands=(),
            max_parallel=request.max_parallel,
        )

    def submit(self, plan: LaunchPlan, directory: Path) -> tuple[JobHandle, ...]:  # noqa: ARG002 - the protocol's
        """Hold the plan's jobs, waiting."""
        spec = directory / SPEC_FILE
        if not spec.exists():
            raise NotFound(f"{spec}: no such file")
        found = JobSpec.from_json(spec.read_bytes(), source=str(spec))
        handles: list[JobHandle] = []
        for index in sorted(found.entries, key=int):
            run_id = found.entry(int(index)).run_id
            job_id = self._ids.setdefault((str(spec), index), str(len(self._ids) + 1))
            self.jobs.setdefault(job_id, FakeJob(run_id))
            handles.append(JobHandle(backend="fake", job_id=job_id, name=run_id))
        return tuple(handles)

    def states(self, handles: Sequence[JobHandle]) -> dict[JobHandle, JobState]:
        """Return the states that the test gave."""
        known = {handle: self.jobs.get(handle.job_id) for handle in handles}
        return {
            handle: job.state if job is not None and job.run_id == handle.name else JobState.UNKNOWN
            for handle, job in known.items()
        }

    def cancel(self, handles: Sequence[JobHandle]) -> None:
        """Cancel at once."""
        for handle in handles:
            job = self.jobs.get(handle.job_id)
            if job is not None and not job.state.is_final:
                job.state = JobState.CANCELLED

    def logs(self, handle: JobHandle, *, follow: bool = False) -> Iterator[str]:  # noqa: ARG002 - all is there
        """Return the lines that the test gave."""
        if self.states([handle])[handle] is JobState.UNKNOWN:
            raise NotFound(f"run {handle.name}: not known here")
        return iter(tuple(self.jobs[handle.job_id].lines))

    def _find(self, run_id: str) -> FakeJob:
        return next(job for job in self.jobs.values() if job.run_id == run_id)


def make_entry(root: Path, code: str, *, index: int = 0, **changes: Any) -> SpecEntry:
    """Return the entry of a run that executes Python code, in a project at `root`; `changes` replace its fields."""
    project = Project(root)
    run_id = f"run_{STAMP}-{index:03d}"
    fields: dict[str, Any] = {
        "run_id": run_id,
        "sweep_id": f"sweep_{STAMP}",
        "run_dir": str(project.run(run_id)),
        "manifests_dir": str(project.manifests),
        "cwd": str(root),
        "command": (sys.executable, "-I", "-S", "-c", code),
        "scratch": str(root / "scratch"),
        "durable": str(root / "durable"),
        "shared": str(root / "shared"),
        "walltime_s": 120.0,
        "max_retries": 0,
        "grace_s": 5.0,
        "resources": Resources(memory="64MiB"),
    }
    return SpecEntry(**(fields | changes))


def make_request(root: Path, *codes: str, max_parallel: int | None = None, **changes: Any) -> LaunchRequest:
    """Return the request of a sweep with one run for each piece of Python code."""
    entries = {index: make_entry(root, code, index=index, **changes) for index, code in enumerate(codes)}
    return LaunchRequest(
        submission=f"sweep_{STAMP}", entries=entries, resources=entries[0].resources, max_parallel=max_parallel
    )


def write_plan(plan: LaunchPlan, root: Path) -> Path:
    """Write a plan's files into its submission's folder in the project at `root`; return the folder."""
    directory = Project(root).run(plan.submission)
    directory.mkdir(parents=True, exist_ok=True)
    for file in plan.files:
        (directory / file.path).write_text(file.text)
    return directory


def launch(backend: Backend, root: Path, request: LaunchRequest, *, site: SiteConfig | None = None) -> list[JobHandle]:
    """Plan, write and submit; return a handle per run."""
    plan = backend.plan(request, site if site is not None else SiteConfig())
    return list(backend.submit(plan, write_plan(plan, root)))


class BackendContract(ABC):
    """What every Backend promises; a test class inherits it, makes the backend and brings its jobs to their end."""

    GOOD = "print('one'); print('two')"
    BAD = "print('no', flush=True); raise SystemExit(65)"
    LONG = "import time; time.sleep(600)"

    @abstractmethod
    def make_backend(self, tmp_path: Path) -> Backend:
        """Return a backend that holds nothing."""

    @abstractmethod
    def bring_to_end(self, backend: Backend, handles: Sequence[JobHandle]) -> None:
        """Return when the jobs ended as their code says: GOOD succeeds, BAD fails."""

    def test_planning_twice_gives_equal_plans_and_touches_nothing(self, tmp_path: Path) -> None:
        """What was judged must be what is done."""
        backend, request = self.make_backend(tmp_path), make_request(tmp_path, self.GOOD)
        before = sorted(tmp_path.rglob("*"))
        plan = backend.plan(request, SiteConfig())
        assert plan == backend.plan(request, SiteConfig())
        assert LaunchPlan.from_json(plan.to_json(), source="plan.json") == plan
        assert sorted(tmp_path.rglob("*")) == before

    def test_a_submission_has_a_handle_per_run_in_index_order(self, tmp_path: Path) -> None:
        """The name holds the run id, because a job id alone can be given out twice."""
        request = make_request(tmp_path, self.GOOD, self.GOOD, self.GOOD)
        handles = launch(self.make_backend(tmp_path), tmp_path, request)
        assert [handle.name for handle in handles] == [entry.run_id for entry in request.entries.values()]

    def test_submitting_again_submits_nothing_again(self, tmp_path: Path) -> None:
        """A launcher that lost the answer asks once more."""
        backend, request = self.make_backend(tmp_path), make_request(tmp_path, self.GOOD)
        assert launch(backend, tmp_path, request) == launch(backend, tmp_path, request)

    def test_a_plan_whose_files_are_missing_is_not_submitted(self, tmp_path: Path) -> None:
        """The job entry would find nothing to run."""
        backend = self.make_backend(tmp_path)
        plan = backend.plan(make_request(tmp_path, self.GOOD), SiteConfig())
        with pytest.raises(NotFound, match=SPEC_FILE):
            backend.submit(plan, tmp_path / "nowhere")

    def test_states_and_logs_tell_how_jobs_ended(self, tmp_path: Path) -> None:
        """Several jobs, one query."""
        backend = self.make_backend(tmp_path)
        good, bad = launch(backend, tmp_path, make_request(tmp_path, self.GOOD, self.BAD))
        self.bring_to_end(backend, [good, bad])
        assert backend.states([good, bad]) == {good: JobState.SUCCEEDED, bad: JobState.FAILED}
        assert list(backend.logs(good)) == ["one", "two"]
        assert list(backend.logs(bad, follow=True)) == ["no"]

    def test_a_job_it_does_not_know_is_unknown_and_nothing_else(self, tmp_path: Path) -> None:
        """No answer about a job is no statement about it."""
        backend = self.make_backend(tmp_path)
        known = launch(backend, tmp_path, make_request(tmp_path, self.GOOD))[0]
        stranger = known.model_copy(update={"job_id": "4711"})
        impostor = known.model_copy(update={"name": f"run_{STAMP}-999"})
        states = backend.states([stranger, impostor])
        assert states == {stranger: JobState.UNKNOWN, impostor: JobState.UNKNOWN}
        with pytest.raises(NotFound):
            backend.logs(impostor)

    def test_cancelling_is_safe_to_repeat(self, tmp_path: Path) -> None:
        """And an ended job keeps its end."""
        backend = self.make_backend(tmp_path)
        good, long = launch(backend, tmp_path, make_request(tmp_path, self.GOOD, self.LONG))
        self.bring_to_end(backend, [good])
        backend.cancel([good, long])
        backend.cancel([good, long])
        self.bring_to_end(backend, [long])
        assert backend.states([good, long]) == {good: JobState.SUCCEEDED, long: JobState.CANCELLED}

    def test_more_nodes_than_there_are_is_refused_before_anything_is_written(self, tmp_path: Path) -> None:
        """A job that can never run must not wait for ever."""
        request = make_request(tmp_path, self.GOOD, resources=Resources(nodes=1_000))
        with pytest.raises(ConfigError, match="nodes"):
            self.make_backend(tmp_path).check_fits(request.resources, SiteConfig())
