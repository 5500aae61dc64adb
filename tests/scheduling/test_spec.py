from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nexa_contracts.errors import ConfigError, NotFound
from nexa_contracts.job import JobSpec
from nexa_contracts.site import SiteConfig
from nexa_infra.scheduling.backend import LaunchRequest, render_spec
from nexa_infra.scheduling.entry import read_entries, read_entry
from nexa_infra.scheduling.local import LocalBackend
from nexa_infra.scheduling.state_dir import StateDir
from nexa_infra.testing.backend import make_entry, make_request, write_plan


def test_every_entry_is_read_back_as_it_was_given(tmp_path: Path) -> None:
    request = make_request(tmp_path, "print(1)", "print('zwei ✓')", "print(3)", environment={"A": "b"})
    entries = dict(request.entries)
    entries[1] = entries[1].model_copy(update={"environment": {}, "secrets": ("TOKEN",), "point": {"params.x": 0.5}})
    text = render_spec(LaunchRequest(submission="sweep", entries=entries, resources=request.resources))
    spec = JobSpec.from_json(text, source="spec.json")
    assert {int(index): spec.entry(int(index)) for index in spec.entries} == entries
    (tmp_path / "spec.json").write_text(text)
    found = read_entries(tmp_path / "spec.json", tuple(entries))
    for index, entry in entries.items():
        assert (found[index].run_id, found[index].environment, found[index].secrets, found[index].command) == (
            entry.run_id, entry.environment, entry.secrets, entry.command,
        )  # fmt: skip


def test_what_runs_have_in_common_stands_in_a_spec_once(tmp_path: Path) -> None:
    request = make_request(tmp_path, *["print()"] * 200, environment={"LONG": "x" * 1000})
    text = render_spec(request)
    assert text.count("x" * 1000) == 1
    assert len(text) / 200 < 300
    assert [line.split('"')[1] for line in text.splitlines() if '"run_id": "run_' in line][1:] == [
        str(index) for index in range(1, 200)
    ]


def test_a_spec_of_the_version_before_is_read(tmp_path: Path) -> None:
    entries = {str(index): make_entry(tmp_path, "print()", index=index).model_dump(mode="json") for index in (0, 7)}
    path = tmp_path / "spec.json"
    path.write_text(json.dumps({"schema_version": 1, "submission": "sweep", "entries": entries}))
    assert read_entry(path, 7).run_id == entries["7"]["run_id"]
    assert JobSpec.from_json(path.read_text(), source="spec.json").entry(7) == make_entry(tmp_path, "print()", index=7)


def test_an_entry_that_is_none_is_named(tmp_path: Path) -> None:
    spec = JobSpec.from_json(render_spec(make_request(tmp_path, "print()")), source="spec.json")
    damaged = spec.model_copy(update={"entries": {"0": {"walltime_s": "long"}}})
    with pytest.raises(ConfigError, match=r"entries\.0\.walltime_s: "):
        damaged.entry(0)


def test_values_that_python_calls_equal_stay_what_they_are(tmp_path: Path) -> None:
    request = make_request(tmp_path, *["print()"] * 3)
    points = ({"params.x": 1}, {"params.x": True}, {"params.x": 1.0})
    entries = {
        index: entry.model_copy(update={"point": points[index]}) for index, entry in dict(request.entries).items()
    }
    text = render_spec(LaunchRequest(submission="sweep", entries=entries, resources=request.resources))
    spec = JobSpec.from_json(text, source="spec.json")
    assert [repr(spec.entry(index).point) for index in range(3)] == [repr(point) for point in points]


@pytest.mark.parametrize("key", ["zero", "-1", "1.5", "01", "\u0663", ""])
def test_an_entry_under_what_is_no_index_is_refused_by_name_when_it_is_submitted(
    tmp_path: Path, state_dir: Path, key: str
) -> None:
    backend = LocalBackend(StateDir(state_dir), environment={})
    plan = backend.plan(make_request(tmp_path, "print()"), SiteConfig())
    folder = write_plan(plan, tmp_path)
    spec = json.loads((folder / "spec.json").read_text())
    (folder / "spec.json").write_text(json.dumps({**spec, "entries": {key: {}}}))
    with pytest.raises(ConfigError, match=f"entries: found {re.escape(repr(key))}; allowed: decimal array indices"):
        backend.submit(plan, folder)


def test_an_entry_that_is_not_there_is_named(tmp_path: Path) -> None:
    spec = JobSpec.from_json(render_spec(make_request(tmp_path, "print()")), source="spec.json")
    with pytest.raises(ConfigError, match=r"entries\.7: not there; 1 others are"):
        spec.entry(7)


@pytest.mark.parametrize(
    "entries", ['{"zero": {}}', '{"1.5": {}}', "[{}]", '"text"', "[" * 200_000, '{"0": {"max_retries": 1e999}}']
)
def test_a_spec_that_was_changed_by_hand_is_named(tmp_path: Path, entries: str) -> None:
    good = make_entry(tmp_path, "print()").model_dump(mode="json")
    path = tmp_path / "spec.json"
    path.write_text(f'{{"common": {json.dumps(good)}, "entries": {entries}}}')
    with pytest.raises((ConfigError, NotFound), match=r"spec\.json: "):
        read_entry(path, 0)
