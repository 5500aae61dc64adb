"""Telling a study how its trials ended: from their outcomes, whoever wrote those, and each once."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from nexa_contracts.errors import NexaError, StorageError
from nexa_contracts.states import JobState
from nexa_infra.scheduling.adaptive.study import RUN_ID, open_study, study_errors
from nexa_infra.storage.layout import Project

if TYPE_CHECKING:
    from pathlib import Path

    from optuna import Study

    from nexa_contracts.sweep import Objective


def tell_sweep(path: Path, project: Project, sweep_id: str) -> None:
    """Tell the study of a sweep of every trial whose run has ended since.

    Raises:
        MissingExtra: Optuna is not installed.
        NexaError: the sweep's manifest or its study cannot be read or written.
    """
    from nexa_infra.storage.manifests import read_sweep_manifest

    sweep = read_sweep_manifest(project, sweep_id).config
    study = open_study(path, sweep, sweep_id=sweep_id)
    with study_errors(path):
        tell_ended(study, project, sweep.objective)


def tell_ended(study: Study, project: Project, objective: Objective) -> None:
    """Tell a study of every trial whose run has an outcome; what was told already stays as it is."""
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        outcome = _find_outcome(project, str(trial.user_attrs.get(RUN_ID, "")))
        if outcome is None:
            continue
        value = _find_value(outcome, objective)
        try:
            if outcome.get("pruned_at_step") is not None:
                study.tell(trial.number, state=TrialState.PRUNED, skip_if_finished=True)
            elif value is not None:
                study.tell(trial.number, value, skip_if_finished=True)
            else:
                study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        except UpdateFinishedTrialError:
            continue  # another job was faster; it read the same outcome


def _find_outcome(project: Project, run_id: str) -> dict[str, Any] | None:
    try:
        path = project.outcome(run_id)
        outcome = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{run_id}: its outcome cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError, NexaError):
        return None  # damaged, which is for a person to see; or a trial that somebody else added
    return outcome if isinstance(outcome, dict) else None


def _find_value(outcome: dict[str, Any], objective: Objective) -> float | None:
    if outcome.get("state") != JobState.SUCCEEDED:
        return None
    value = (outcome.get("metrics") or {}).get(objective.metric)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return float(value)
