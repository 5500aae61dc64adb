"""What a job had no time to tell its study, whoever settles the run tells."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nexa_contracts.run import RunOutcome
from nexa_contracts.states import JobState
from nexa_infra.operations.context import open_context
from nexa_infra.operations.launch import launch_sweep
from nexa_infra.operations.reconcile import settle_costs
from nexa_infra.operations.studies import render_dashboard
from nexa_infra.scheduling.adaptive.study import INDEX, RUN_ID, open_study
from nexa_infra.storage.manifests import read_sweep_manifest, record_outcome

SWEEP = """\
run: {command: [python3, work.py], resources: {memory: 64MiB}}
search: tpe
trials: 1
axes:
  params.x: {uniform: [0, 1]}
"""


@pytest.mark.parametrize(
    ("state", "pruned_at_step", "told"),
    [(JobState.SUCCEEDED, None, "COMPLETE"), (JobState.SUCCEEDED, 4, "PRUNED"), (JobState.NODE_FAILED, None, "FAIL")],
)
def test_a_run_whose_job_died_after_its_outcome_is_told(
    tmp_path: Path, state_dir: Path, state: JobState, pruned_at_step: int | None, told: str
) -> None:
    (tmp_path / "nexa.yaml").write_text("{}")
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    (tmp_path / "work.py").touch()
    context = open_context(tmp_path, environment=dict(os.environ))
    launched = launch_sweep(tmp_path / "sweep.yaml", submit=False, context=context)
    assert launched.study == context.tiers.study(launched.submission)
    (run_id,) = launched.run_ids
    sweep = read_sweep_manifest(context.project, launched.submission).config
    study = open_study(launched.study, sweep, sweep_id=launched.submission)
    trial = study.ask()
    trial.set_user_attr(RUN_ID, run_id)
    trial.set_user_attr(INDEX, 0)
    outcome = RunOutcome(
        run_id=run_id, sweep_id=launched.submission, index=0, state=state, ended_at=context.clock.now(), attempts=1,
        seconds=1.0, metrics={"eval_loss": 0.25}, pruned_at_step=pruned_at_step,
    )  # fmt: skip
    record_outcome(context.project, outcome)
    settle_costs(context, [run_id])
    settle_costs(context, [run_id])
    (found,) = open_study(launched.study, sweep, sweep_id=launched.submission).trials
    assert (found.state.name, found.value) == (told, 0.25 if told == "COMPLETE" else None)


def test_a_dashboard_is_given_the_whole_path_as_one_word() -> None:
    assert render_dashboard(Path("/my shared/s/study.journal")) == "optuna-dashboard '/my shared/s/study.journal'"
