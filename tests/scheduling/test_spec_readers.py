"""`spec.json` has two readers: the contract, and the job entry's own, which must be cheap. They read the same."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from nexa_contracts.errors import ConfigError
from nexa_contracts.health import HealthPlan
from nexa_contracts.job import JobSpec, SpecEntry
from nexa_infra.scheduling.entry import Entry, read_entry

UNREAD = {"resources"}
"""Of its resources a job reads the cores and nodes."""
FULL: dict[str, Any] = {
    "run_id": "run_20260102_030405_k3f9-003",
    "sweep_id": "sweep_20260102_030405_k3f9",
    "point": {"params.x": 0.5},
    "run_dir": "/p/runs/run",
    "manifests_dir": "/p/runs/manifests",
    "study": "/p/runs/sweep/study.log",
    "cwd": "/p/code",
    "command": ["python3", "-c", "print(1)"],
    "environment": {"A": "b"},
    "secrets": ["TOKEN"],
    "scratch": "/s",
    "durable": "/d",
    "shared": "/h",
    "walltime_s": 61.5,
    "max_retries": 7,
    "max_preemptions": 3,
    "max_time_outs": 2,
    "stall_s": 12.5,
    "grace_s": 1.5,
    "resources": {"cpus": 5, "nodes": 2},
    "health": {"ledger": "/h/ledger.jsonl", "request": {"node": "any", "gpus": 0}, "moves": 2},
}
REQUIRED = {name: FULL[name] for name, field in SpecEntry.model_fields.items() if field.is_required()}
WRONG: dict[str, tuple[Any, ...]] = {
    "run_id": (None, 5),
    "sweep_id": (5, ["x"]),
    "study": (5, ["x"]),
    "point": ("x", None, [["params.x", 1]], {"params.x": None}, {"params.x": [1]}),
    "command": ("echo", None, [1], {"0": "echo"}, 5),
    "environment": ("A=b", None, [], {"A": 1}, [["A", "b"]]),
    "secrets": ("TOKEN", None, [1]),
    "walltime_s": ("60", None, 0, -1, True, 1e999),
    "max_retries": ("1", None, -1, 1.5, 2.0, True),
    "max_preemptions": ("1", None, -1, 1.5, True),
    "max_time_outs": ("1", None, -1, 1.5, True),
    "stall_s": ("1", 0, -1, True, 1e999),
    "grace_s": ("1", None, -1, True, 1e999),
    "health": ("x", 5, [], {"moves": -1}, {"moves": "1"}, {"ledger": 5}),
    "resources": (
        {"nodes": 0},
        {"nodes": "1"},
        {"cpus": 0},
        {"cpus": "1"},
        {"cpus": 1.5},
        {"cpus": True},
        {"cpus": None},
        None,
        "x",
        [],
    ),
    **{name: (None, 5, ["x"]) for name in ("run_dir", "manifests_dir", "cwd", "scratch", "durable", "shared")},
}


def write(folder: Path, entry: dict[str, Any]) -> Path:
    path = folder / "spec.json"
    path.write_text(json.dumps({"schema_version": 2, "submission": "s", "common": {}, "entries": {"3": entry}}))
    return path


def by_contract(path: Path) -> SpecEntry:
    return JobSpec.from_json(path.read_bytes(), source=str(path)).entry(3)


def plain(value: Any) -> Any:
    """A value of an entry as the contract spells it."""
    if isinstance(value, dict) and "ledger" in value:
        return HealthPlan.model_validate_json(json.dumps(value))
    return str(getattr(value, "path", value)) if isinstance(value, Path) or hasattr(value, "path") else value


def test_no_field_is_read_by_one_of_them_only() -> None:
    ours = {field.name for field in dataclasses.fields(Entry)}
    assert SpecEntry.model_fields.keys() - UNREAD == ours - {"index", "cpus", "nodes"} - UNREAD


def test_what_is_compared_here_are_all_the_fields() -> None:
    assert SpecEntry.model_fields.keys() == FULL.keys() == WRONG.keys()


@pytest.mark.parametrize("entry", [FULL, REQUIRED, {**REQUIRED, "resources": {}}], ids=["full", "required", "none"])
def test_both_read_the_same_values_and_the_same_defaults(tmp_path: Path, entry: dict[str, Any]) -> None:
    path = write(tmp_path, entry)
    told, read = by_contract(path), read_entry(path, 3)
    for name in SpecEntry.model_fields.keys() - UNREAD:
        assert plain(getattr(read, name)) == getattr(told, name), name
    assert (read.cpus, read.nodes) == (told.resources.cpus, told.resources.nodes)
    assert read.index == 3


@pytest.mark.parametrize("name", REQUIRED)
def test_both_ask_for_the_same_fields(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, {key: value for key, value in FULL.items() if key != name})
    for read in (by_contract, lambda path: read_entry(path, 3)):
        with pytest.raises(ConfigError, match=name):
            read(path)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_both_refuse_the_same_values_by_the_name_of_the_field(tmp_path: Path, name: str, value: Any) -> None:
    path = write(tmp_path, {**FULL, name: value})
    for read in (by_contract, lambda path: read_entry(path, 3)):
        with pytest.raises(ConfigError):
            read(path)


def test_a_command_that_is_one_text_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"spec\.json: .*command: found str; allowed: a list of texts"):
        read_entry(write(tmp_path, {**FULL, "command": "echo"}), 3)
