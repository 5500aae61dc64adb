"""Filters mean what a person typed, and nothing a person types becomes SQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_contracts.clock import SystemClock
from nexa_contracts.errors import ConfigError
from nexa_contracts.resources import Resources
from nexa_contracts.states import JobState
from nexa_infra.storage.index import RunIndex, open_index
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import record_cost, record_manifests, record_outcome
from nexa_infra.storage.where import FIELDS, OPERATORS, Condition, parse_where
from nexa_infra.testing.clock import FakeClock
from tests.storage.manifests_made import SWEEP, make_cost, make_failure, make_manifest, make_outcome, run_id_of


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunIndex]:
    project = Project(tmp_path_factory.mktemp("project"))
    gpus = Resources(gpus_per_node=2, gpu_type="H100-SXM")
    record_manifests(
        project,
        [
            make_manifest(0, name="baseline", tags={"team": "x", "prio": "5"}),
            make_manifest(1, name="LR-sweep", sweep_id=SWEEP, index=0, point={"training.learning_rate": 1e-3}),
            make_manifest(2, name="lr-sweep", sweep_id=SWEEP, index=1, point={"training.learning_rate": 2e-3}),
            make_manifest(3, name="all_sure", resources=gpus, point={"params.kind": "12", "params.flag": True}),
        ],
    )
    record_outcome(project, make_outcome(1, metrics={"eval_loss": 2.5, "eval_bits_per_byte": 1.5}))
    record_outcome(project, make_outcome(2, metrics={"eval_loss": 3.0}, seconds=200.0))
    record_outcome(project, make_outcome(3, state=JobState.FAILED, failure=make_failure(), metrics={}))
    record_cost(project, make_cost(1, total=1.25))
    record_cost(project, make_cost(2, total=None))
    clock = FakeClock(SystemClock().now() + timedelta(minutes=1))
    with open_index(project, clock=clock) as opened:
        yield opened


def numbers(index: RunIndex, *texts: str, sort: str | None = "run") -> list[int]:
    rows = index.find_runs([parse_where(text) for text in texts], sort=sort)
    known = {run_id_of(number): number for number in range(4)}
    return [known[row.run_id] for row in rows]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("state=FAILED", [3]),
        ("state=failed", [3]),
        ("state!=FAILED", [0, 1, 2]),
        ("state=none", [0]),
        ("state!=none", [1, 2, 3]),
        (f"sweep={SWEEP}", [1, 2]),
        ("sweep=none", [0, 3]),
        ("name~lr", [1, 2]),
        ("name=lr-sweep", [2]),
        ("name~l_s", [3]),
        ("name~%", []),
        ("name ~ sweep", [1, 2]),
        ("eval_loss<3", [1]),
        ("eval_loss<=3", [1, 2]),
        ("eval_loss=none", [0, 3]),
        ("seconds>=200", [2]),
        ("cost>1", [1]),
        ("cost=none", [0, 2, 3]),
        ("gpu=H100-SXM", [3]),
        ("gpus>0", [3]),
        ("index=1", [2]),
        ("tag.team=x", [0]),
        ("tag.team!=x", [1, 2, 3]),
        ("tag.prio=5", [0]),
        ("point.training.learning_rate>1.5e-3", [2]),
        ("point.training.learning_rate=0.001", [1]),
        ("point.params.kind=12", [3]),
        ("point.params.kind!=12", [0, 1, 2]),
        ("point.params.flag=true", [3]),
        ("metrics.eval_bits_per_byte<2", [1]),
        ("config.params.depth>=2", [2, 3]),
        ("config.params.depth!=2", [0, 1, 3]),
        ("config.resources.gpu_type=H100-SXM", [3]),
        ("config.resources.gpu_type=none", [0, 1, 2]),
        ("created>2026-11-01T12:01:30", [2, 3]),
        ("created<2026-11-02", [0, 1, 2, 3]),
        ("created>=2026-11-01T13:02:00+01:00", [2, 3]),
        ("failure~50%", [3]),
        (f"run={run_id_of(2)}", [2]),
    ],
)
def test_a_filter_finds_what_it_says(index: RunIndex, text: str, expected: list[int]) -> None:
    assert numbers(index, text) == expected
    assert index.count_runs([parse_where(text)]) == len(expected)


def test_filters_are_joined_by_and(index: RunIndex) -> None:
    assert numbers(index, "name~sweep", "eval_loss<2.6") == [1]


def test_runs_come_newest_first_and_sorted_on_request(index: RunIndex) -> None:
    assert numbers(index, sort=None) == [3, 2, 1, 0]
    assert numbers(index, sort="eval_loss") == [1, 2, 0, 3]
    assert numbers(index, sort="-eval_loss") == [2, 1, 0, 3]
    assert numbers(index, sort="-point.training.learning_rate") == [2, 1, 0, 3]
    assert numbers(index, sort="name") == [1, 3, 0, 2]
    assert [row.run_id for row in index.find_runs(limit=2)] == [run_id_of(3), run_id_of(2)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stat=FAILED", "unknown field stat; did you mean state? allowed: run, sweep,"),
        ("", "allowed: FIELD OPERATOR VALUE"),
        ("state", "allowed: FIELD OPERATOR VALUE"),
        ("state=RUNNING", "found 'RUNNING'; allowed: SUCCEEDED, FAILED,"),
        ("eval_loss<low", "found 'low'; allowed: a number, or none"),
        ("eval_loss<nan", "found 'nan'; allowed: a number, or none"),
        ("eval_loss~3", "found the operator ~"),
        ("eval_loss<none", "found < none; allowed: = none and != none"),
        ("created>yesterday", "a time in UTC such as 2026-11-01"),
        ("tag.=x", "allowed: FIELD OPERATOR VALUE|unknown field tag"),
        ("point.a..b=x", "unknown field point.a..b"),
    ],
)
def test_a_filter_that_is_none_says_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match="where: ") as caught:
        parse_where(text)
    assert any(part in str(caught.value) for part in message.split("|"))


def test_an_unknown_sort_key_says_what_is_allowed(index: RunIndex) -> None:
    with pytest.raises(ConfigError, match="unknown field loss_; did you mean loss"):
        index.find_runs(sort="-loss_")


@pytest.mark.parametrize("value", ["'; DROP TABLE runs; --", '"', "\\", "%", "?", "\x00", "名", "a" * 10_000])
def test_a_value_is_only_ever_a_value(index: RunIndex, value: str) -> None:
    for operator in ("=", "!=", "~"):
        index.find_runs([Condition("name", operator, value), Condition("config.name", operator, value)])
    assert len(index.find_runs()) == 4


@given(
    field=st.sampled_from([*FIELDS, "tag.a", "point.a.b", "metrics.c", "config.d.e"]),
    operator=st.sampled_from(OPERATORS),
    value=st.text(max_size=20),
)
def test_every_filter_is_answered_or_refused(
    tmp_path_factory: pytest.TempPathFactory, field: str, operator: str, value: str
) -> None:
    project = Project(Path(tmp_path_factory.getbasetemp()) / "none")
    try:
        condition = parse_where(f"{field}{operator}{value}")
    except ConfigError:
        return
    with open_index(project) as index:
        assert index.find_runs([condition]) == []
