"""What a sweep lacks is found after whoever answers for its runs has settled them, and what nobody knows is named."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from nexa_contracts.run import RunOutcome
from nexa_contracts.states import JobState
from nexa_infra.operations.context import Context, open_context
from nexa_infra.operations.launch import launch_sweep
from nexa_infra.operations.resume import Unfinished, find_unfinished
from nexa_infra.operations.status import LiveState
from nexa_infra.scheduling.sweep import define_sweep
from nexa_infra.storage.manifests import read_sweep_manifest, record_outcome
from nexa_infra.testing.clock import FakeClock

SWEEP = """\
run: {command: [python3, -c, print(1)], resources: {memory: 64MiB}}
axes:
  params.x: {values: [1, 2]}
"""


@pytest.fixture
def context(tmp_path: Path, state_dir: Path) -> Context:
    (tmp_path / "nexa.yaml").write_text("{}")
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    return open_context(tmp_path, clock=FakeClock(), environment=dict(os.environ))


class Answers:
    """Answers for runs as a backend does that settles those whose jobs have ended in silence."""

    def __init__(self, context: Context, ended: Sequence[str] = (), unknown: Sequence[str] = ()) -> None:
        self._context = context
        self._ended = ended
        self._unknown = unknown

    def __call__(self, run_ids: Sequence[str]) -> Mapping[str, LiveState]:
        for run_id in self._ended:
            outcome = RunOutcome(
                run_id=run_id, state=JobState.NODE_FAILED, ended_at=self._context.clock.now(), attempts=1, seconds=1.0
            )
            record_outcome(self._context.project, outcome)
        states = {run_id: LiveState(JobState.RUNNING) for run_id in run_ids}
        states |= {run_id: LiveState(JobState.NODE_FAILED) for run_id in self._ended}
        return states | {run_id: LiveState(JobState.UNKNOWN, reason="of another cluster") for run_id in self._unknown}


def look(context: Context, sweep_id: str, live: Answers) -> Unfinished:
    manifest = read_sweep_manifest(context.project, sweep_id)
    definition = define_sweep(manifest.config, source=manifest.config_source)
    return find_unfinished(context, manifest, definition, live=live, stamp="20260102_040000_aaaa", backend="local")


def test_a_run_that_is_settled_by_the_question_is_submitted_again_at_once(context: Context) -> None:
    planned = launch_sweep(context.project.root / "sweep.yaml", submit=False, context=context)
    found = look(context, planned.submission, Answers(context, ended=planned.run_ids[:1]))
    assert [member.index for member in found.members] == [0]
    assert found.unknown == {}


def test_a_run_of_which_nobody_knows_is_left_alone_and_named(context: Context) -> None:
    planned = launch_sweep(context.project.root / "sweep.yaml", submit=False, context=context)
    found = look(context, planned.submission, Answers(context, unknown=planned.run_ids[1:]))
    assert (found.members, dict(found.unknown)) == ([], {planned.run_ids[1]: "of another cluster"})
