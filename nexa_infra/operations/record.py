"""All that is recorded of one run. What is damaged is named, and does not hide the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from nexa_contracts.cost import CostManifest
from nexa_contracts.errors import ConfigError, StorageError
from nexa_contracts.run import AttemptRecord, RunManifest, RunOutcome
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import find_cost, find_outcome, list_attempts, read_attempt, read_run_manifest

FoundT = TypeVar("FoundT")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run's manifest, and whatever else of it there is and can be read."""

    manifest: RunManifest
    outcome: RunOutcome | None
    """None: it has not ended, or `is_outcome_damaged`."""
    is_outcome_damaged: bool
    cost: CostManifest | None
    is_cost_damaged: bool
    attempts: Mapping[int, AttemptRecord | None]
    """By number; None: its file cannot be read."""
    problems: tuple[str, ...]
    """One line for each file that cannot be read: its path and the reason."""


def read_record(project: Project, run_id: str) -> RunRecord:
    """Return all that is recorded of a run; only its manifest has to be readable.

    Raises:
        NotFound: there is no such run.
        ConfigError: its manifest does not fit the schema.
    """
    problems: list[str] = []

    def attempt(number: int) -> AttemptRecord | None:
        return _read(lambda: read_attempt(project, run_id, number), problems)

    manifest = read_run_manifest(project, run_id)
    outcome = _read(lambda: find_outcome(project, run_id), problems)
    is_outcome_damaged = bool(problems)
    cost = _read(lambda: find_cost(project, run_id), problems)
    return RunRecord(
        manifest=manifest,
        outcome=outcome,
        is_outcome_damaged=is_outcome_damaged,
        cost=cost,
        is_cost_damaged=len(problems) > is_outcome_damaged,
        attempts={number: attempt(number) for number in list_attempts(project, run_id)},
        problems=tuple(problems),
    )


def _read(read: Callable[[], FoundT | None], problems: list[str]) -> FoundT | None:
    try:
        return read()
    except (ConfigError, StorageError) as error:
        problems.append(error.message)
        return None
