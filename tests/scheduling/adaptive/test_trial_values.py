from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nexa_contracts.sweep import Objective
from nexa_infra.scheduling.adaptive.pruning import Schedule, ValueReader
from nexa_infra.storage.metrics import read_new_records


@given(steps=st.lists(st.integers(0, 10**7), max_size=50).map(sorted), after=st.none() | st.integers(0, 10**6))
def test_reported_steps_rise_and_grow_apart(steps: list[int], after: int | None) -> None:
    schedule = Schedule(after=after)
    due = [step for step in steps if schedule.is_due(step)]
    before = -1 if after is None else after
    for step in due:
        assert step > before
        assert step >= math.ceil(before * 1.1)
        before = step


def test_a_million_steps_are_few_reports_and_the_first_ones_are_all_there() -> None:
    schedule = Schedule(after=None)
    due = [step for step in range(10**6) if schedule.is_due(step)]
    assert due[:11] == list(range(11))
    assert len(due) < 150


def read(objective: Objective, *records: dict[str, Any]) -> list[float | None]:
    reader = ValueReader(objective)
    return [reader.read(record) for record in records]


def test_loss_stands_in_until_the_objective_is_said() -> None:
    lines = {"loss": 3.0}, {"loss": None}, {"loss": 2, "eval_loss": 2.5}, {"loss": 1.0}, {"eval_loss": 2.0}
    assert read(Objective(), *lines) == [3.0, None, 2.5, None, 2.0]


def test_loss_says_nothing_of_an_objective_of_which_more_is_better() -> None:
    lines = {"loss": 3.0}, {"accuracy": 0.5}
    assert read(Objective(metric="accuracy", direction="maximize"), *lines) == [None, 0.5]


@given(records=st.lists(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5))), cuts=st.data())
def test_a_file_read_as_it_grows_gives_every_record_once(
    tmp_path_factory: Any, records: list[dict[str, Any]], cuts: st.DataObject
) -> None:
    path: Path = tmp_path_factory.mktemp("metrics") / "metrics.jsonl"
    text = b"".join(json.dumps(record).encode() + b"\n" for record in records)
    places = [*sorted(cuts.draw(st.lists(st.integers(0, len(text)), max_size=4))), len(text)]
    found: list[dict[str, Any]] = []
    offset = 0
    for place in places:
        path.write_bytes(text[:place])
        new, offset = read_new_records(path, offset=offset)
        found += new
    assert found == records
    assert offset == len(text)
