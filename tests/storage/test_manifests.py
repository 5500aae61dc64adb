"""Manifests are created once, found again, and mirrored to durable."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nexa_contracts.errors import AlreadyExists, ConfigError, NotFound
from nexa_contracts.run import AttemptRecord, EnvironmentRecord
from nexa_contracts.states import JobState
from nexa_infra.storage.atomic import create_file
from nexa_infra.storage.batch import FEW, PIECE, create_batch, create_missing
from nexa_infra.storage.layout import Project, Tiers
from nexa_infra.storage.manifests import (
    find_cost,
    find_outcome,
    list_attempts,
    mirror_manifests,
    next_attempt_number,
    read_attempts,
    read_outcome,
    read_run_manifest,
    read_sweep_manifest,
    record_cost,
    record_manifest,
    record_manifests,
    record_outcome,
    record_sweep,
)
from tests.storage.manifests_made import START, make_cost, make_manifest, make_outcome, make_sweep, run_id_of


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


@pytest.fixture
def tiers(tmp_path: Path) -> Tiers:
    return Tiers(tmp_path / "scratch", tmp_path / "durable", tmp_path / "shared")


def test_what_was_recorded_is_read_back(project: Project) -> None:
    record_manifest(project, make_manifest())
    record_sweep(project, make_sweep())
    assert record_outcome(project, make_outcome())
    assert record_cost(project, make_cost())
    assert read_run_manifest(project, run_id_of(0)) == make_manifest()
    assert read_sweep_manifest(project, make_sweep().sweep_id) == make_sweep()
    assert read_outcome(project, run_id_of(0)) == find_outcome(project, run_id_of(0)) == make_outcome()
    assert find_cost(project, run_id_of(0)) == make_cost()


def test_a_second_manifest_of_a_run_is_refused(project: Project) -> None:
    record_manifest(project, make_manifest())
    with pytest.raises(AlreadyExists, match=run_id_of(0)):
        record_manifest(project, make_manifest(name="other"))
    assert read_run_manifest(project, run_id_of(0)).name == "tiny"


def test_the_first_outcome_holds(project: Project) -> None:
    assert record_outcome(project, make_outcome(state=JobState.FAILED))
    assert not record_outcome(project, make_outcome())
    assert read_outcome(project, run_id_of(0)).state is JobState.FAILED


def test_of_many_outcomes_at_once_one_is_recorded(project: Project) -> None:
    won: list[bool] = []
    writers = [
        threading.Thread(
            target=lambda seconds=number: won.append(record_outcome(project, make_outcome(seconds=seconds)))
        )
        for number in map(float, range(8))
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert won.count(True) == 1


def test_what_is_not_there_is_none_or_says_where_it_looked(project: Project) -> None:
    assert find_outcome(project, run_id_of(0)) is None
    assert find_cost(project, run_id_of(0)) is None
    with pytest.raises(NotFound, match=f"run {run_id_of(0)}: no file"):
        read_run_manifest(project, run_id_of(0))


def test_a_damaged_manifest_is_named(project: Project) -> None:
    create_file(project.manifest(run_id_of(0)), b"{")
    with pytest.raises(ConfigError, match=rf"{run_id_of(0)}\.json: not valid JSON"):
        read_run_manifest(project, run_id_of(0))


def test_a_sweeps_manifests_are_recorded_together(project: Project) -> None:
    count = PIECE + 3
    assert record_manifests(project, (make_manifest(number) for number in range(count))) == count
    assert read_run_manifest(project, run_id_of(count - 1)) == make_manifest(count - 1)
    visible = [path.name for path in project.manifests.iterdir() if not path.name.startswith(".")]
    assert len(visible) == count
    assert [path.name for path in project.manifests.iterdir() if path.name.endswith(".tmp")] == []


def test_manifests_that_are_recorded_together_are_written_as_each_alone(project: Project) -> None:
    here = make_manifest().environment.model_copy(update={"packages": {"a": "1", "b": '2\n  "environment": {'}})
    nowhere = EnvironmentRecord(hostname="", platform="", python="", python_executable="")
    pretending = "\n  " + '"environment": ' + nowhere.model_dump_json(indent=2).replace("\n", "\n  ")
    manifests = [
        make_manifest(0, environment=here, project=pretending),
        make_manifest(1, environment=here, point={"environment": pretending}),
        make_manifest(2, environment=nowhere),
        make_manifest(3),
    ]
    record_manifests(project, manifests)
    for manifest in manifests:
        assert project.manifest(manifest.run_id).read_text() == manifest.to_json()


@pytest.mark.parametrize("count", [FEW, FEW + 1, PIECE + 1])
def test_of_files_that_are_there_the_others_are_created(tmp_path: Path, count: int) -> None:
    create_file(tmp_path / "3", b"first")
    files = [(str(number), b"second") for number in range(count)]
    created = create_missing(tmp_path, files, has_journal=False)
    assert created == {name for name, _ in files} - {"3"}
    assert (tmp_path / "3").read_bytes() == b"first"
    assert {path.name for path in tmp_path.iterdir()} == {name for name, _ in files}


@pytest.mark.parametrize("count", [FEW, FEW + 1])
def test_of_files_that_cannot_all_be_written_none_is_there(tmp_path: Path, count: int) -> None:
    def fail() -> Iterator[tuple[str, bytes]]:
        yield from ((str(number), b"text") for number in range(count))
        raise ConfigError("the next one cannot be made")

    with pytest.raises(ConfigError, match="cannot be made"):
        create_batch(tmp_path, fail())
    assert [path.name for path in tmp_path.iterdir() if path.name != ".journal"] == []


def test_a_batch_never_replaces_a_manifest(project: Project) -> None:
    record_manifest(project, make_manifest(1, name="first"))
    with pytest.raises(AlreadyExists, match=run_id_of(1)):
        record_manifests(project, [make_manifest(0), make_manifest(1)])
    assert read_run_manifest(project, run_id_of(1)).name == "first"
    assert [path.name for path in project.manifests.iterdir() if path.name.endswith(".tmp")] == []


def test_attempts_are_counted_by_their_records(project: Project) -> None:
    assert next_attempt_number(project, run_id_of(0)) == 1
    for number in (1, 2, 10):
        record = AttemptRecord(
            run_id=run_id_of(0),
            number=number,
            state=JobState.FAILED,
            started_at=START,
            ended_at=START,
            seconds=1.0,
            hostname="here",
        )
        create_file(project.attempt(run_id_of(0), number), record.to_json().encode())
    create_file(project.result(run_id_of(0), 10), b"{}")
    assert list_attempts(project, run_id_of(0)) == (1, 2, 10)
    assert [record.number for record in read_attempts(project, run_id_of(0))] == [1, 2, 10]
    assert next_attempt_number(project, run_id_of(0)) == 11


def test_mirroring_copies_what_there_is_and_can_be_repeated(project: Project, tiers: Tiers) -> None:
    record_manifest(project, make_manifest(0))
    record_manifest(project, make_manifest(1))
    record_outcome(project, make_outcome(0))
    record_cost(project, make_cost(0))
    ids = [run_id_of(0), run_id_of(1)]
    assert mirror_manifests(project, tiers, ids) == 4
    assert mirror_manifests(project, tiers, ids) == 0
    mirrored = tiers.durable_manifests / project.outcome(run_id_of(0)).name
    assert mirrored.read_bytes() == project.outcome(run_id_of(0)).read_bytes()


def test_a_mirror_that_differs_is_named_and_left(project: Project, tiers: Tiers) -> None:
    record_manifest(project, make_manifest())
    target = tiers.durable_manifests / project.manifest(run_id_of(0)).name
    create_file(target, b"another")
    with pytest.raises(AlreadyExists, match="differs from"):
        mirror_manifests(project, tiers, [run_id_of(0)])
    assert target.read_bytes() == b"another"


def test_listing_runs_does_not_load_the_contracts() -> None:
    program = (
        "import sys, nexa_infra.storage.index, nexa_infra.storage.manifests, nexa_infra.storage.journal;"
        "sys.exit(any(name.split('.')[0] in ('pydantic', 'pyarrow', 'ruamel') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
