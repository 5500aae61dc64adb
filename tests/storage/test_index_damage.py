"""A damaged database, journal or manifest hides no run."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from nexa_infra.storage.index import open_index
from nexa_infra.storage.journal import JOURNAL_NAME
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import record_manifest, record_manifests, record_outcome
from nexa_infra.testing.clock import FakeClock
from tests.storage.index_asked import ids, open_ids
from tests.storage.manifests_made import make_manifest, make_outcome, run_id_of


def damage(path: Path, how: str) -> None:
    raw = path.read_bytes()
    if how == "deleted":
        path.unlink()
    elif how == "garbage":
        path.write_bytes(os.urandom(len(raw)))
    elif how == "cut off":
        path.write_bytes(raw[: len(raw) // 2])
    elif how == "holed":
        path.write_bytes(raw[:4096] + b"\xff" * (len(raw) - 4096))
    elif how == "empty":
        path.write_bytes(b"")
    else:
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 999")
        connection.execute("ALTER TABLE runs RENAME COLUMN asked TO something_else")
        connection.close()


@pytest.mark.parametrize("how", ["deleted", "garbage", "cut off", "holed", "empty", "of another version"])
def test_a_lost_or_damaged_database_is_built_anew(project: Project, clock: FakeClock, how: str) -> None:
    record_manifests(project, [make_manifest(number) for number in range(50)])
    record_outcome(project, make_outcome(49))
    before = open_ids(project, clock)
    damage(project.index, how)
    with open_index(project, clock=clock) as index:
        assert ids(index) == before
        assert index.find_runs()[0].state == "SUCCEEDED"
    damage(project.index, "of another version")
    assert open_ids(project, clock) == before


def test_an_index_that_cannot_be_written_is_kept_in_memory(project: Project, clock: FakeClock) -> None:
    record_manifest(project, make_manifest(0))
    project.index.mkdir()
    with open_index(project, clock=clock) as index:
        record_manifest(project, make_manifest(1))
        index.refresh()
        assert ids(index) == [run_id_of(1), run_id_of(0)]
        assert index.problems == ()


def test_looking_at_a_project_without_runs_creates_nothing(project: Project, clock: FakeClock) -> None:
    project.root.mkdir()
    assert open_ids(project, clock) == []
    assert list(project.root.iterdir()) == []


@pytest.mark.parametrize("journal", [None, b"", b"\x00" * 100, b"1 2 run_x.json\nnot a line\n"])
def test_a_lost_or_damaged_journal_hides_no_manifest(project: Project, clock: FakeClock, journal: bytes | None) -> None:
    record_manifest(project, make_manifest(0))
    assert open_ids(project, clock) == [run_id_of(0)]
    record_manifest(project, make_manifest(1))
    path = project.manifests / JOURNAL_NAME
    if journal is None:
        path.unlink()
    else:
        path.write_bytes(journal)
    assert open_ids(project, clock) == [run_id_of(1), run_id_of(0)]


CHANGES = {
    "not JSON": ("{", "Expecting property name"),
    "a list": ("[]", "found list; allowed: an object"),
    "newer": ('{"schema_version": 2}', "schema_version 2; this version reads up to 1"),
    "another run's": (f'{{"run_id": "{run_id_of(9)}"}}', f"the file's name says {run_id_of(5)}"),
    "without a config": (f'{{"run_id": "{run_id_of(5)}"}}', "config: missing"),
    "NaN": (make_manifest(5).to_json().replace('"total": 4.0', '"total": NaN'), "allowed: a finite number"),
    "infinite in the config": (make_manifest(5).to_json().replace('"depth": 5', '"depth": Infinity'), "JSON compliant"),
    "half a character": (make_manifest(5).to_json().replace('"tiny"', '"\\ud800"'), None),
    "too large a number": (make_manifest(5).to_json().replace('"index": null', f'"index": {2**70}'), "a whole number"),
    "a text as index": (make_manifest(5).to_json().replace('"index": null', '"index": "1"'), "a whole number"),
    "nested": ("[" * 100_000, "nested too deep"),
    "not UTF-8": ("\udcff", "decode"),
}  # fmt: skip


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_file_that_is_no_manifest_is_named_and_hides_no_other(
    project: Project, clock: FakeClock, change: str
) -> None:
    text, reason = CHANGES[change]
    record_manifests(project, [make_manifest(0), make_manifest(1)])
    path = project.manifest(run_id_of(5))
    path.write_bytes(text.encode(errors="surrogateescape"))
    with open_index(project, clock=clock) as index:
        assert {run_id_of(0), run_id_of(1)} <= set(ids(index))
        if reason is None:
            assert index.problems == ()
            return
        (problem,) = index.problems
        assert problem.startswith(f"{path}: ")
        assert reason in problem
        path.write_text(make_manifest(5).to_json())
        index.refresh()
        assert index.problems == ()
        assert run_id_of(5) in ids(index)


def test_a_folder_named_like_a_manifest_is_named_until_it_goes(project: Project, clock: FakeClock) -> None:
    record_manifest(project, make_manifest(0))
    path = project.manifest(run_id_of(5))
    path.mkdir()
    with open_index(project, clock=clock) as index:
        assert list(index.problems) == [f"{path}: Is a directory"]
        path.rmdir()
        index.refresh()
        assert list(index.problems) == []


def test_files_that_are_no_manifests_are_left_alone(project: Project, clock: FakeClock) -> None:
    record_manifest(project, make_manifest(0))
    for name in ("notes.json", "README.md", ".run_hidden.json", "run_x.json.tmp"):
        (project.manifests / name).write_text("not a manifest")
    with open_index(project, clock=clock) as index:
        assert ids(index) == [run_id_of(0)]
        assert index.problems == ()
