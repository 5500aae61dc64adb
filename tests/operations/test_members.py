"""The members of a sweep are made when they are looked at, and all of them are looked at before anything is done."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest

from nexa_contracts.errors import ConfigError, PolicyRefused
from nexa_contracts.job import JobSpec
from nexa_contracts.resources import Resources
from nexa_contracts.run import RunConfig
from nexa_contracts.site import SiteConfig
from nexa_contracts.sweep import Axis, SweepConfig
from nexa_infra.operations.context import Context, open_context
from nexa_infra.operations.launch import launch_sweep
from nexa_infra.operations.members import MAX_RUNS, MadeOnDemand, Member, estimate_runs, expand_sweep, survey_members
from nexa_infra.scheduling.sweep import define_sweep
from nexa_infra.testing.clock import FakeClock

STAMP = "20260102_030405_k3f9"
RUN = RunConfig(command=("true",), tags={"team": "a"})
LARGE = """\
run:
  command: [python3, work.py]
  resources: {memory: 64MiB, walltime: 1m}
axes:
  params.x: {int: [1, 50]}
  params.y: {int: [1, 40]}
"""
TRAINING = """\
run:
  model: {scratch: {}}
  data: {dataset: rows}
  training: {max_steps: 1}
axes:
"""


@pytest.fixture
def context(tmp_path: Path) -> Context:
    (tmp_path / "nexa.yaml").write_text("prices: {cpu: {hourly: 0.5}}\n")
    (tmp_path / "work.py").write_text("print(1)\n")
    return open_context(tmp_path, clock=FakeClock(), environment=dict(os.environ))


def expand(axes: dict[str, Axis], *, base: RunConfig = RUN, indices: Sequence[int] | None = None) -> Sequence[Member]:
    definition = define_sweep(SweepConfig(run=base, axes=axes), source="sweep.yaml")
    return expand_sweep(definition, base, stamp=STAMP, tags={"sweep": "b"}, indices=indices)


def write(context: Context, text: str) -> Path:
    path = context.project.root / "sweep.yaml"
    path.write_text(text)
    return path


def test_only_what_is_looked_at_is_made() -> None:
    made: list[int] = []

    def make(position: int) -> int:
        made.append(position)
        return position * 10

    items = MadeOnDemand(1_000_000, make)
    assert (items[3], items[-1], list(items[5:7])) == (30, 9_999_990, [50, 60])
    assert next(iter(items)) == 0
    assert len(items) == 1_000_000
    assert made == [3, 999_999, 5, 6, 0]
    with pytest.raises(IndexError):
        items[1_000_000]


def test_a_member_is_its_index_and_the_same_at_every_look() -> None:
    members = expand({"params.x": Axis(int=(0, 9))}, indices=[7, 2])
    assert [(member.run_id, member.index, member.point) for member in members] == [
        (f"run_{STAMP}-007", 7, {"params.x": 7}),
        (f"run_{STAMP}-002", 2, {"params.x": 2}),
    ]
    assert members[1].config == RUN.model_copy(update={"params": {"x": 2}, "tags": {"team": "a", "sweep": "b"}})
    assert list(members) == list(members)


def test_a_survey_holds_ids_and_no_configs() -> None:
    members = expand({"params.x": Axis(int=(1, 100)), "params.y": Axis(int=(1, 100))})
    survey_members(members[:10])
    tracemalloc.start()
    try:
        survey = survey_members(members)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(survey.run_ids) == len(set(survey.run_ids)) == 10_000
    assert len(survey.configs) == 1
    assert peak_bytes / 10_000 < 300  # an id is 80 bytes; a config is 5 KB


def test_a_survey_sums_up_what_every_member_needs() -> None:
    axes = {"resources.cpus": Axis(values=(1, 2)), "params.x": Axis(int=(1, 3)), "params.name": Axis(values=("a", "b"))}
    survey = survey_members(expand(axes))
    assert survey.sizes == {Resources(cpus=1): 6, Resources(cpus=2): 6}
    assert {config.params["name"] for config in survey.configs} == {"a", "b"}
    assert (survey.datasets, survey.trains, survey.indices) == ((), False, tuple(range(12)))
    site = SiteConfig.model_validate({"prices": {"cpu": {"hourly": 0.5}}})
    estimate = estimate_runs(survey.sizes, site)
    assert (estimate.runs, estimate.units_per_run, estimate.total) == (12, 2, 6 * 0.5 + 6 * 2 * 0.5)


def test_points_that_do_not_fit_are_told_with_their_numbers() -> None:
    members = expand({"resources.cpus": Axis(int=(4090, 4120))})
    with pytest.raises(ConfigError) as caught:
        survey_members(members)
    lines = caught.value.message.splitlines()
    assert len(lines) == 10
    assert "4097" in lines[0]


def test_more_runs_than_a_machine_should_get_are_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=f"found {MAX_RUNS + 1} runs; allowed: at most {MAX_RUNS}"):
        expand({"params.x": Axis(int=(0, MAX_RUNS))})


def test_the_dry_run_of_a_large_sweep_shows_its_first_runs_and_counts_them_all(context: Context) -> None:
    launched = launch_sweep(write(context, LARGE), dry_run=True, context=context)
    assert (launched.job_count, len(launched.run_ids), launched.plan.left_out) == (2000, 2000, 1990)
    spec = JobSpec.from_json(launched.plan.files[0].text, source="spec.json")
    assert [spec.entry(int(index)).point["params.y"] for index in spec.entries] == list(range(1, 11))
    assert launched.estimate.runs == 2000
    assert launched.estimate.total == pytest.approx(2000 / 60 * 0.5)


def test_a_dry_run_looks_at_every_point(context: Context) -> None:
    # Every listed value fits with some other, and the last point does not.
    axes = "  model.scratch.hidden_size: {values: [120, 128]}\n  model.scratch.num_heads: {values: [4, 8, 3]}"
    with pytest.raises(ConfigError) as caught:
        launch_sweep(write(context, TRAINING + axes), dry_run=True, context=context)
    (line,) = caught.value.message.splitlines()
    assert line == "point 5: model.scratch: hidden_size 128 is not a multiple of num_heads 3"


def test_a_credential_in_one_of_many_points_is_refused_by_a_dry_run_too(context: Context) -> None:
    axes = "  params.api_token: {values: [none, 0123456789abcdef0123456789abcdef01234567]}\n"
    with pytest.raises(PolicyRefused, match="api_token looks like a credential"):
        launch_sweep(write(context, LARGE + axes), dry_run=True, context=context)


def test_sizes_that_can_never_run_are_told_at_once(context: Context) -> None:
    axes = "axes: {resources.cpus: {values: [1, 4000]}, resources.memory: {values: [64MiB, 1PiB]}}"
    with pytest.raises(ConfigError) as caught:
        launch_sweep(write(context, LARGE.partition("axes:")[0] + axes), context=context)
    assert [line.partition(":")[0] for line in caught.value.message.splitlines()] == [
        "resources.memory",
        "resources.cpus",
    ]
    assert not context.project.runs.exists()
