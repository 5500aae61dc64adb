"""How runs are doing: one view of a run, and of a run or sweep as a whole. Files and one query of the backend.

No contract is loaded here: a screen that is redrawn every second must be cheap to fill.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nexa_contracts.errors import ExternalError, StorageUnavailable
from nexa_contracts.states import JobState
from nexa_infra.operations.plain_records import (
    cost_so_far,
    describe_end,
    find_damage,
    find_manifest_damage,
    read_ended,
)
from nexa_infra.operations.progress import Progress, read_object, read_progress
from nexa_infra.operations.unasked import find_unasked
from nexa_infra.storage.layout import Project
from nexa_infra.storage.metrics import read_number, read_whole
from nexa_infra.storage.recorded import find_ended
from nexa_infra.storage.run_rows import RunRow

PRUNED = "PRUNED"
"""Shown instead of SUCCEEDED."""
NOT_SUBMITTED = "NOT SUBMITTED"
"""Shown instead of UNKNOWN, where it is known that no backend was asked to take a run."""
MANY_RUNS = 500
"""A sweep of more is shown from the index, which holds what has ended."""
_SHOWN_FAILURES = 100
"""Of more of a large sweep the lines that show them are left to `nexa show`."""
LiveStates = Callable[[Sequence[str]], Mapping[str, "LiveState"]]
"""Answers for many run ids at once; a run the backend does not know is left out."""


@dataclass(frozen=True, slots=True)
class LiveState:
    """What the backend says of a run that has not ended."""

    state: JobState
    attempt: int | None = None
    seconds: float | None = None
    """Seconds since the attempt that is running began."""
    reason: str | None = None
    is_unasked: bool = False
    """No backend was ever asked to take it."""


@dataclass(frozen=True, slots=True)
class RunView:
    """One run as a screen shows it."""

    run_id: str
    name: str
    state: JobState
    index: int | None = None
    point: Mapping[str, Any] = field(default_factory=dict)
    attempt: int | None = None
    seconds: float | None = None
    """Measured seconds of all attempts so far."""
    cost: float | None = None
    """So far; None where the price is unknown."""
    progress: Progress = field(default_factory=Progress)
    metrics: Mapping[str, float] = field(default_factory=dict)
    failure: str | None = None
    evidence: tuple[str, ...] = ()
    reason: str | None = None
    pruned_at_step: int | None = None
    is_unasked: bool = False
    """No backend was ever asked to take it."""
    earlier: Mapping[int, str] = field(default_factory=dict)
    """How the attempts ended that a run which goes on has behind it, by number: state and reason."""

    @property
    def label(self) -> str:
        """The state, PRUNED for a run that its sweep's pruner ended, or NOT SUBMITTED."""
        if self.is_unasked:
            return NOT_SUBMITTED
        return str(self.state) if self.pruned_at_step is None else PRUNED


@dataclass(frozen=True, slots=True)
class SubmissionView:
    """A run or a sweep as one object."""

    submission: str
    runs: tuple[RunView, ...]
    trouble: str | None = None
    """Why the backend cannot be asked now; what has not ended is UNKNOWN meanwhile."""

    @property
    def counts(self) -> dict[str, int]:
        """Number of runs by state, those that were pruned on their own, most first."""
        return dict(Counter(run.label for run in self.runs).most_common())

    @property
    def is_final(self) -> bool:
        """Whether no run will change again."""
        return all(run.state.is_final for run in self.runs)

    @property
    def known_cost(self) -> float:
        """Sum of the costs that are known."""
        return sum(run.cost for run in self.runs if run.cost is not None)

    @property
    def unknown_costs(self) -> int:
        """Number of runs whose price is unknown."""
        return sum(1 for run in self.runs if run.cost is None)


class Watcher:
    """Looks at the same runs again and again; what has ended is read once."""

    def __init__(
        self,
        project: Project,
        submission: str,
        run_ids: Sequence[str],
        live: LiveStates,
        *,
        rows: Sequence[RunRow] = (),
    ) -> None:
        """`rows` are the runs as the index has them: of a large sweep their files are then not read one by one."""
        self._project = project
        self._submission = submission
        self._run_ids = tuple(run_ids)
        self._live = live
        self._rows = {row.run_id: row for row in rows} if len(rows) > MANY_RUNS else {}
        self._ended: dict[str, RunView] = {}
        self._manifests: dict[str, dict[str, Any]] = {}
        self._failures = 0

    def look(self) -> SubmissionView:
        """Return the view of now; while the backend cannot be asked, what has not ended is UNKNOWN with the reason.

        Raises:
            StorageError: what the backend keeps is damaged.
        """
        for row in self._rows.values():
            if row.ended_json is not None and row.run_id not in self._ended:
                self._ended[row.run_id] = self._view_ended(row)
        waiting = [run_id for run_id in self._run_ids if run_id not in self._ended]
        # Who has an outcome needs no backend: it is told also where the queue is lost.
        ended = find_ended(self._project, waiting)
        waiting = [run_id for run_id in waiting if run_id not in ended]
        live, trouble = self._ask(waiting)
        views = [self._ended.get(run_id) or self._view(run_id, live.get(run_id)) for run_id in self._run_ids]
        self._ended.update({view.run_id: view for view in views if view.state.is_final})
        return SubmissionView(self._submission, tuple(views), trouble)

    def _ask(self, run_ids: Sequence[str]) -> tuple[Mapping[str, LiveState], str | None]:
        try:
            return tell_unasked(self._project, run_ids, self._live(run_ids)) if run_ids else {}, None
        except (StorageUnavailable, ExternalError) as error:
            # It passes; what the runs' own files say is shown meanwhile.
            unknown = LiveState(JobState.UNKNOWN, reason="the backend cannot be asked now")
            return dict.fromkeys(run_ids, unknown), str(error)

    def _view_ended(self, row: RunRow) -> RunView:
        self._failures += row.failure is not None
        is_shown = row.failure is not None and self._failures <= _SHOWN_FAILURES
        outcome = read_object(self._project.outcome(row.run_id)) if is_shown else {}
        cost = row.total_usd
        if not row.is_costed and row.hourly_usd is not None:
            cost = row.hourly_usd * (row.seconds or 0.0) / 3600
        return RunView(
            run_id=row.run_id,
            name=row.name,
            state=JobState(row.state or JobState.UNKNOWN),
            index=row.member,
            point=row.point,
            attempt=row.attempts,
            seconds=row.seconds,
            cost=cost,
            progress=Progress(step=row.steps, tokens=row.tokens),
            metrics=row.metrics,
            failure=row.failure,
            pruned_at_step=row.pruned_at_step,
            evidence=tuple((outcome.get("failure") or {}).get("evidence") or ()),
        )

    def _view(self, run_id: str, live: LiveState | None) -> RunView:
        row = self._rows.get(run_id)
        if row is not None and live is not None and live.state is JobState.PENDING and live.attempt is None:
            # Nothing of it is on disk yet.
            return RunView(
                run_id=run_id,
                name=row.name,
                state=live.state,
                index=row.member,
                point=row.point,
                seconds=0.0,
                cost=None if row.estimate_usd is None else 0.0,
                reason=live.reason,
            )
        manifest = self._manifests.get(run_id)
        if manifest is None:
            manifest = self._manifests[run_id] = read_object(self._project.manifest(run_id))
        outcome = read_object(self._project.outcome(run_id))
        if manifest.get("sweep_id") and not manifest.get("point"):
            # A study chose its point when it started; the manifest is older.
            point = read_object(self._project.run_dir(run_id).point).get("point")
            manifest = {**manifest, "point": outcome.get("point") or point}
        return render_view(
            run_id,
            manifest,
            outcome,
            live=live,
            before=[] if outcome else read_ended(self._project, run_id),
            progress=read_progress(self._project, run_id),
        )


def render_view(
    run_id: str,
    manifest: Mapping[str, Any],
    outcome: Mapping[str, Any],
    *,
    live: LiveState | None,
    before: Sequence[tuple[int, Mapping[str, Any]]] = (),
    progress: Progress,
) -> RunView:
    """Return the view of a run from its manifest, its outcome (empty while it goes on) and what the backend says.

    `before` are the records of the attempts that have ended, by number.
    """
    before_s = sum(read_number(record.get("seconds")) or 0.0 for _, record in before)
    attempt: int | None
    damage = find_damage(outcome) if outcome else None
    if damage is not None:
        outcome = {}
    odd = find_manifest_damage(manifest)
    if odd is not None:
        manifest = {"name": manifest.get("name", "")}
    if outcome:
        state, seconds, attempt = JobState(outcome["state"]), float(outcome["seconds"]), int(outcome["attempts"])
    elif live is not None:
        state, attempt = live.state, live.attempt
        seconds = before_s + (live.seconds or 0.0)
    else:
        state, seconds, attempt = JobState.UNKNOWN, before_s, None
    failure = outcome.get("failure") or {}
    reason = live.reason if live is not None else None
    if not outcome and live is None:
        reason = damage or "planned, not submitted, or the backend has lost it"
    return RunView(
        run_id=run_id,
        name=str(manifest.get("name", "")),
        state=state,
        index=manifest.get("index"),
        point=manifest.get("point") or {},
        attempt=attempt,
        seconds=seconds,
        cost=cost_so_far(manifest, seconds),
        progress=progress,
        metrics=outcome.get("metrics") or {},
        failure=f"{failure['kind']}: {failure['message']}" if failure else None,
        evidence=tuple(failure.get("evidence") or ()),
        reason="; ".join(text for text in (reason, odd) if text) or None,
        pruned_at_step=read_whole(outcome.get("pruned_at_step")),
        is_unasked=not outcome and live is not None and live.is_unasked,
        earlier={} if outcome else {number: describe_end(record) for number, record in before},
    )


def tell_unasked(project: Project, run_ids: Sequence[str], live: Mapping[str, LiveState]) -> Mapping[str, LiveState]:
    """Return what a backend says of runs, and of those that it does not know which it was never asked to take."""
    unasked = find_unasked(project, [run_id for run_id in run_ids if run_id not in live])
    told = {
        run_id: LiveState(
            JobState.UNKNOWN, reason=f"not submitted: nexa sweep --resume {sweep_id} submits it", is_unasked=True
        )
        for run_id, sweep_id in unasked.items()
    }
    return {**live, **told} if told else live
