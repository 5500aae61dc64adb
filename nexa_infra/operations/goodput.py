"""Where the wall time of a run went, from its records and its own events."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from nexa_contracts.errors import ConfigError, StorageError
from nexa_contracts.run import AttemptRecord, RunManifest, RunOutcome
from nexa_infra.monitoring.goodput import AttemptSpan, Goodput, account_time
from nexa_infra.monitoring.run_events import parse_events
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import find_outcome, list_attempts, read_attempt, read_run_manifest
from nexa_infra.storage.metrics import read_metrics


def read_goodput(project: Project, run_id: str) -> Goodput | None:
    """Return where the time of a run went so far; None when it has not started. What is damaged is left out.

    Raises:
        NotFound: there is no such run.
        ConfigError: its manifest does not fit the schema.
        StorageError: its events cannot be read.
    """
    attempts: list[AttemptRecord] = []
    for number in list_attempts(project, run_id):
        try:
            attempts.append(read_attempt(project, run_id, number))
        except (ConfigError, StorageError):
            continue  # `nexa show` names it; its time counts as waiting
    try:
        outcome = find_outcome(project, run_id)
    except (ConfigError, StorageError):
        outcome = None
    return account_run(project, read_run_manifest(project, run_id), attempts=attempts, outcome=outcome)


def account_run(
    project: Project, manifest: RunManifest, *, attempts: Iterable[AttemptRecord], outcome: RunOutcome | None
) -> Goodput | None:
    """Return where the time of a run went so far, given its records; None when it has not started.

    Raises:
        StorageError: its events cannot be read.
    """
    path = project.run_dir(manifest.run_id).events
    try:
        events = list(parse_events(read_metrics(path)))
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error
    spans = [_span(attempt) for attempt in attempts]
    ended_at: datetime | None = None if outcome is None else outcome.ended_at
    if not spans and not events and ended_at is None:
        return None
    return account_time(spans, events, submitted_at=manifest.created_at, ended_at=ended_at)


def _span(attempt: AttemptRecord) -> AttemptSpan:
    return AttemptSpan(attempt.number, attempt.started_at, attempt.ended_at, attempt.seconds, attempt.step)
