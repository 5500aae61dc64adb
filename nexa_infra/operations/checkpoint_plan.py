"""How often a run should save, from what its saves took and how often machines of this project failed."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

from nexa_contracts.errors import EvidenceMissing
from nexa_contracts.run import RunConfig
from nexa_contracts.states import JobState
from nexa_infra.monitoring.checkpoint_interval import Choice, Failing, Fleet, compare_intervals, recommend_interval
from nexa_infra.operations.goodput import read_goodput
from nexa_infra.storage.index import open_index
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import list_attempts, read_run_manifest

logger = logging.getLogger(__name__)

_CUT_OFF = frozenset({"lost", "killed", "stalled"})
"""Failures that came from outside the program, and left it no time to save."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What is known already; None: it is measured."""

    run_id: str | None = None
    save_s: float | None = None
    node_mttf_s: float | None = None
    nodes: int | None = None
    restart_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointPlan:
    """A recommended interval, what it rests on, and what each choice costs."""

    run_id: str | None
    nodes: int
    save_s: float
    saves: int | None
    """How many saves that was measured on; None: it was given."""
    restart_s: float | None
    """None: not known, and counted as nothing."""
    mttf_s: float
    """Of the whole job."""
    fleet: Fleet | None
    """What the rate of failures rests on; None: it was given."""
    interval_s: float
    step_s: float | None
    every_steps: int | None
    """The interval in steps, as `checkpoints.every_steps` wants it; None: no step was measured."""
    choices: tuple[Choice, ...]


@dataclass(frozen=True, slots=True)
class _Measured:
    nodes: int = 1
    save_s: float | None = None
    saves: int | None = None
    restart_s: float | None = None
    step_s: float | None = None
    every_steps: int | None = None


def plan_checkpoints(project: Project, request: PlanRequest) -> CheckpointPlan:
    """Return how often to save; what the request does not give is measured on its run and on the project's attempts.

    Raises:
        NotFound: there is no such run.
        EvidenceMissing: something was neither given nor measured.
        StorageError: what was measured cannot be read.
    """
    measured = _Measured() if request.run_id is None else _measure(project, request.run_id)
    save_s = request.save_s if request.save_s is not None else measured.save_s
    if save_s is None:
        raise EvidenceMissing(
            f"{request.run_id or 'no run'}: no checkpoint was saved and timed", hint="give --save-seconds S"
        )
    nodes = request.nodes or measured.nodes
    fleet = measure_fleet(project) if request.node_mttf_s is None else None
    node_mttf_s = request.node_mttf_s if fleet is None else fleet.node_mttf_s
    if node_mttf_s is None:
        raise EvidenceMissing(
            "no attempt of this project has ended, so nothing is known of how often machines fail",
            hint="give --mttf T, such as 264d for one node of a large fleet",
        )
    restart_s = request.restart_s if request.restart_s is not None else measured.restart_s
    failing = Failing(save_s=save_s, mttf_s=node_mttf_s / nodes, restart_s=restart_s or 0.0)
    interval_s = recommend_interval(failing)
    step_s, every = measured.step_s, measured.every_steps
    current_s = None if step_s is None or every is None else step_s * every
    return CheckpointPlan(
        run_id=request.run_id,
        nodes=nodes,
        save_s=save_s,
        saves=measured.saves if request.save_s is None else None,
        restart_s=restart_s,
        mttf_s=failing.mttf_s,
        fleet=fleet,
        interval_s=interval_s,
        step_s=step_s,
        every_steps=max(1, round(interval_s / step_s)) if step_s else None,
        choices=compare_intervals(failing, current_s=current_s),
    )


def measure_fleet(project: Project) -> Fleet:
    """Return how often attempts of this project were cut off from outside, and over how many node hours.

    A record that cannot be read is left out, with its hours.
    """
    failures, hours = 0, 0.0
    with open_index(project) as index:
        run_ids = [row.run_id for row in index.find_runs()]
    for run_id in run_ids:
        nodes: int | None = None
        for number in list_attempts(project, run_id):
            try:
                attempt = json.loads(project.attempt(run_id, number).read_bytes())
                nodes = nodes or _read_nodes(project, run_id)
                hours += float(attempt["seconds"]) / 3600 * nodes
                failures += _is_cut_off(attempt)
            except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
                logger.warning("attempt %d of %s is left out: %s", number, run_id, error)
    return Fleet(failures=failures, node_hours=hours)


def _read_nodes(project: Project, run_id: str) -> int:
    manifest: dict[str, Any] = json.loads(project.manifest(run_id).read_bytes())
    return int(manifest["config"].get("resources", {}).get("nodes") or 1)


def _is_cut_off(attempt: dict[str, Any]) -> bool:
    failure = attempt.get("failure") or {}
    return attempt["state"] == JobState.NODE_FAILED or failure.get("kind") in _CUT_OFF


def _measure(project: Project, run_id: str) -> _Measured:
    config: RunConfig = read_run_manifest(project, run_id).config
    nodes, every = config.resources.nodes, config.checkpoints.every_steps
    goodput = read_goodput(project, run_id)
    if goodput is None:
        return _Measured(nodes=nodes, every_steps=every)
    return _Measured(
        nodes=nodes,
        save_s=goodput.save_s,
        saves=goodput.saves,
        restart_s=goodput.restart_s,
        step_s=goodput.step_s,
        every_steps=every,
    )
