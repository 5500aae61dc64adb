"""The trial that a run is: entered once, before the run's first program starts, with all that is known until then.

The study is the truth of it. A trial is created with the id of its run in it, so that a job that was killed anywhere
between that and `point.json` finds its own trial again: one run is one trial.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nexa_contracts.clock import Clock
from nexa_contracts.errors import AlreadyExists, ConfigError
from nexa_infra.scheduling.adaptive.axes import map_axis, suggest_point
from nexa_infra.scheduling.adaptive.pruning import TrialWatch
from nexa_infra.scheduling.adaptive.study import INDEX, RUN_ID, create_sampler, open_study, study_errors
from nexa_infra.scheduling.adaptive.telling import tell_ended
from nexa_infra.scheduling.entry import Entry, locate_project
from nexa_infra.storage.atomic import create_file, replace_file
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import read_run_manifest, read_sweep_manifest

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

    from nexa_contracts.base import Scalar
    from nexa_contracts.sweep import SweepConfig


def enter_trial(entry: Entry, *, clock: Clock) -> TrialWatch | None:
    """Return the watch over the trial that a run is, after giving the run its point; None when it is no trial.

    Whoever enters one tells the study first of every trial that has ended since, whatever became of its job.

    Raises:
        MissingExtra: Optuna is not installed.
        ConfigError: the point does not fit the run config, or the trial was ended from outside.
        NotFound: the manifest of the run or its sweep is gone.
        StorageError: the study, or the run's folder, cannot be read or written.
    """
    if entry.study is None or entry.sweep_id is None:
        return None
    project = locate_project(entry.manifests_dir)
    sweep = read_sweep_manifest(project, entry.sweep_id).config
    if sweep.pruner == "none" and entry.run_dir.point.exists():
        return None
    study = open_study(entry.study, sweep, sweep_id=entry.sweep_id)
    with study_errors(entry.study):
        if not entry.run_dir.point.exists():
            tell_ended(study, project, sweep.objective)
        trial, found = _claim_trial(study, sweep, entry)
        point = entry.point or suggest_point(trial, sweep.axes)
    if not entry.run_dir.point.exists():
        _record_point(entry, project, point, trial=found.number, clock=clock)
    return TrialWatch(trial, found, run_dir=entry.run_dir, sweep=sweep, study=entry.study)


def _claim_trial(study: Study, sweep: SweepConfig, entry: Entry) -> tuple[Trial, FrozenTrial]:
    from optuna.trial import Trial, TrialState, create_trial

    trials = study.get_trials(deepcopy=False)
    found = _find_trial(trials, entry)
    if found is None:
        # In one line of the journal: there is no moment at which it is nobody's.
        known = {key: map_axis(axis) for key, axis in sweep.axes.items()} if entry.point else {}
        attributes = {RUN_ID: entry.run_id, INDEX: entry.index}
        study.add_trial(
            create_trial(state=TrialState.RUNNING, params=entry.point, distributions=known, user_attrs=attributes)
        )
        trials = study.get_trials(deepcopy=False)
        found = _find_trial(trials, entry)
    if found is None:
        raise ValueError(f"trial of {entry.run_id} is not there after it was added")
    if found.state is not TrialState.RUNNING:
        raise ConfigError(
            f"trial {found.number} of {entry.run_id}: found {found.state.name}; allowed: RUNNING",
            hint="it was ended from outside; nexa sweep --resume gives the member a new one",
        )
    earlier = [trial for trial in trials[: found.number] if trial.user_attrs.get(INDEX) == entry.index]
    study.sampler = create_sampler(sweep, index=entry.index, generation=len(earlier))
    return Trial(study, found._trial_id), found


def _find_trial(trials: Sequence[FrozenTrial], entry: Entry) -> FrozenTrial | None:
    return next((trial for trial in trials if trial.user_attrs.get(RUN_ID) == entry.run_id), None)


def _record_point(entry: Entry, project: Project, point: dict[str, Scalar], *, trial: int, clock: Clock) -> None:
    from nexa_contracts.config import apply_point
    from nexa_contracts.sweep import PointRecord

    if not entry.point:
        frozen = read_run_manifest(project, entry.run_id).config
        config = apply_point(frozen, point, source=f"trial {trial}")
        replace_file(entry.run_dir.config, config.to_json().encode())
    record = PointRecord(
        run_id=entry.run_id, sweep_id=entry.sweep_id or "", trial=trial, point=point, asked_at=clock.now()
    )
    try:
        create_file(entry.run_dir.point, record.to_json().encode())
    except AlreadyExists:
        return  # by another start of the same job; the study gave it the same
