"""A registered dataset is found by its name and is what it was when it was registered."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from nexa_contracts.dataset import FileDigest, SourceProvenance
from nexa_contracts.errors import ConfigError, DigestMismatch, MissingExtra, NotFound, StorageError
from nexa_contracts.yaml_text import read_yaml
from nexa_infra.storage.datasets import (
    dataset_paths,
    describe_ref,
    find_dataset,
    list_datasets,
    list_versions,
    split_label,
    verify_dataset,
)
from nexa_infra.storage.layout import Tiers
from nexa_infra.storage.registration import DatasetDescription, register_dataset
from nexa_infra.testing.clock import FakeClock

CLOCK = FakeClock()
PROVENANCE = SourceProvenance(
    origin="https://example.invalid/data: the 2026 edition", collected_at=CLOCK.now(), collected_by="a test"
)
DEMO = DatasetDescription(name="demo", provenance=PROVENANCE, licence="CC0-1.0", text="rows of a test")


@pytest.fixture
def tiers(tmp_path: Path) -> Tiers:
    return Tiers(tmp_path / "scratch", tmp_path / "durable", tmp_path / "shared")


def write_rows(path: Path, *rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_parquet(path: Path, **columns: list[object]) -> Path:
    import pyarrow
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path)
    return path


def leftovers(tiers: Tiers) -> list[str]:
    return [path.name for path in tiers.datasets.iterdir() if path.name.startswith(".")]


def test_a_registered_file_is_copied_counted_and_described(tiers: Tiers, tmp_path: Path) -> None:
    source = write_rows(
        tmp_path / "rows.jsonl", {"text": "a", "n": 1}, {"text": "b", "n": None}, {"text": "c", "n": 1.5}
    )
    manifest = register_dataset(tiers, [source], DEMO, clock=CLOCK)
    assert (manifest.label, manifest.format, manifest.rows) == ("demo_v1", "jsonl", 3)
    assert manifest.columns == {"text": "string", "n": "float|int|null"}
    assert (manifest.licence, manifest.description, manifest.provenance) == ("CC0-1.0", "rows of a test", PROVENANCE)
    (path,) = dataset_paths(tiers, manifest)
    assert path == tiers.datasets / "demo_v1.jsonl"
    assert path.read_bytes() == source.read_bytes()
    assert find_dataset(tiers, "demo") == find_dataset(tiers, "demo_v1") == manifest
    verify_dataset(tiers, manifest)
    assert leftovers(tiers) == []


def test_parquet_is_counted_from_its_own_record(tiers: Tiers, tmp_path: Path) -> None:
    source = write_parquet(tmp_path / "rows.parquet", text=["a", "b"], n=[1, 2])
    manifest = register_dataset(tiers, [source], DEMO, clock=CLOCK)
    assert (manifest.format, manifest.rows, manifest.columns) == ("parquet", 2, {"text": "string", "n": "int64"})
    assert dataset_paths(tiers, manifest) == (tiers.datasets / "demo_v1.parquet",)


def test_several_files_become_a_folder(tiers: Tiers, tmp_path: Path) -> None:
    files = [write_rows(tmp_path / name, {"text": name}) for name in ("b.jsonl", "a.jsonl")]
    manifest = register_dataset(tiers, files, DEMO, clock=CLOCK)
    assert [file.path for file in manifest.files] == ["datasets/demo_v1/b.jsonl", "datasets/demo_v1/a.jsonl"]
    assert manifest.rows == 2
    verify_dataset(tiers, manifest)


def test_changed_files_are_a_new_version_and_equal_ones_are_not(tiers: Tiers, tmp_path: Path) -> None:
    one, two = (write_rows(tmp_path / f"{name}.jsonl", {"text": name}) for name in ("one", "two"))
    assert register_dataset(tiers, [one], DEMO, clock=CLOCK).version == 1
    assert register_dataset(tiers, [two], DEMO, clock=CLOCK).version == 2
    assert register_dataset(tiers, [one], DEMO, clock=CLOCK).version == 1
    assert find_dataset(tiers, "demo").version == 2
    assert list_versions(tiers) == {"demo": [1, 2]}
    assert [manifest.label for manifest in list_datasets(tiers)] == ["demo_v1", "demo_v2"]
    assert leftovers(tiers) == []


def test_files_can_stay_where_they_are(tiers: Tiers, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "big" / "rows.jsonl", {"text": "a"})
    manifest = register_dataset(tiers, [source], DEMO, clock=CLOCK, copy=False)
    assert dataset_paths(tiers, manifest) == (source,)
    verify_dataset(tiers, manifest)


def test_the_registry_lists_for_people_what_the_manifests_say(tiers: Tiers, tmp_path: Path) -> None:
    for name in ("one", "two"):
        register_dataset(tiers, [write_rows(tmp_path / f"{name}.jsonl", {"text": name})], DEMO, clock=CLOCK)
    listed = read_yaml(tiers.dataset_registry).data["datasets"]["demo"]
    assert listed["newest"] == 2
    second = listed["versions"]["2"]
    assert second["manifest_sha256"] == find_dataset(tiers, "demo").digest()
    assert second["origin"] == PROVENANCE.origin
    assert tiers.dataset_registry.read_text().startswith("# Written by nexa")


def test_a_reference_pins_the_whole_manifest(tiers: Tiers, tmp_path: Path) -> None:
    manifest = register_dataset(tiers, [write_rows(tmp_path / "a.jsonl", {"text": "a"})], DEMO, clock=CLOCK)
    ref = describe_ref(manifest)
    assert (ref.name, ref.version, ref.manifest_sha256) == ("demo", 1, manifest.digest())
    assert (ref.rows, ref.size_bytes) == (1, manifest.files[0].size_bytes)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (b'{"a": 1}\n{"a": \n', r"rows.jsonl:2: found '\{\"a\":': .*; allowed: one JSON object a line"),
        (b'{"a": 1}\n[1]\n', "rows.jsonl:2: found list; allowed: one JSON object a line"),
        (b'{"a": 1}\nnull\n', "rows.jsonl:2: found null; allowed"),
        (b'{"a": 1}\n\n', "rows.jsonl:2: found an empty line"),
        (b'{"a": NaN}\n', "rows.jsonl:1: .*NaN is not JSON"),
        (b'{"a": "\xff"}\n', "rows.jsonl:1: found bytes that are not UTF-8"),
        (b"[" * 100_000, "rows.jsonl:1: "),
        (b"", "rows.jsonl: holds no row"),
    ],
)
def test_a_wrong_row_is_named_and_nothing_is_registered(
    tiers: Tiers, tmp_path: Path, lines: bytes, message: str
) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_bytes(lines)
    with pytest.raises(ConfigError, match=message):
        register_dataset(tiers, [source], DEMO, clock=CLOCK)
    assert list_versions(tiers) == {}
    assert leftovers(tiers) == []


def test_wrong_files_are_refused_before_anything_is_copied(tiers: Tiers, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "a.jsonl", {"text": "a"})
    table = write_parquet(tmp_path / "a.parquet", text=["a"])
    twin = write_rows(tmp_path / "other" / "a.jsonl", {"text": "b"})
    text = write_rows(tmp_path / "a.csv", {})
    for files, message in (
        ([], "found none"),
        ([rows, table], "found jsonl and parquet; allowed: one format"),
        ([rows, twin], "the name a.jsonl stands twice"),
        ([text], "found the ending '.csv'; allowed: .jsonl, .parquet"),
    ):
        with pytest.raises(ConfigError, match=message):
            register_dataset(tiers, files, DEMO, clock=CLOCK)
    with pytest.raises(NotFound, match="no such file"):
        register_dataset(tiers, [tmp_path / "missing.jsonl"], DEMO, clock=CLOCK)
    assert not tiers.datasets.exists()


def test_files_with_other_columns_are_refused(tiers: Tiers, tmp_path: Path) -> None:
    files = [write_rows(tmp_path / "a.jsonl", {"text": "a"}), write_rows(tmp_path / "b.jsonl", {"body": "a"})]
    with pytest.raises(ConfigError, match=r"b\.jsonl: found the columns body; allowed: those of the first file, text"):
        register_dataset(tiers, files, DEMO, clock=CLOCK)


def test_a_file_that_only_looks_like_parquet_is_refused(tiers: Tiers, tmp_path: Path) -> None:
    source = tmp_path / "a.parquet"
    source.write_bytes(b"PAR1 or not")
    with pytest.raises(ConfigError, match=r"a\.parquet: not a readable Parquet file"):
        register_dataset(tiers, [source], DEMO, clock=CLOCK)


@pytest.mark.parametrize("name", ["demo_v2", "../demo", "", "a b"])
def test_a_name_that_cannot_be_one_is_refused(tiers: Tiers, tmp_path: Path, name: str) -> None:
    source = write_rows(tmp_path / "a.jsonl", {"text": "a"})
    with pytest.raises(ConfigError, match="dataset name: found"):
        register_dataset(tiers, [source], DatasetDescription(name=name, provenance=PROVENANCE), clock=CLOCK)


def test_parents_must_be_registered(tiers: Tiers, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "a.jsonl", {"text": "a"})
    child = PROVENANCE.model_copy(update={"parents": ("demo_v1",)})
    description = DatasetDescription(name="child", provenance=child)
    with pytest.raises(NotFound, match="demo_v1"):
        register_dataset(tiers, [source], description, clock=CLOCK)
    register_dataset(tiers, [source], DEMO, clock=CLOCK)
    assert register_dataset(tiers, [source], description, clock=CLOCK).provenance.parents == ("demo_v1",)


def test_an_unknown_name_lists_what_there_is(tiers: Tiers, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="dataset demo: nothing is registered"):
        find_dataset(tiers, "demo")
    register_dataset(tiers, [write_rows(tmp_path / "a.jsonl", {"text": "a"})], DEMO, clock=CLOCK)
    with pytest.raises(NotFound, match=r"not registered; did you mean demo\? known: demo \(v1\)"):
        find_dataset(tiers, "dmo")
    with pytest.raises(NotFound, match=r"known: demo \(v1\)"):
        find_dataset(tiers, "demo_v2")


def test_a_changed_file_is_named_with_both_digests(tiers: Tiers, tmp_path: Path) -> None:
    manifest = register_dataset(tiers, [write_rows(tmp_path / "a.jsonl", {"text": "a"})], DEMO, clock=CLOCK)
    (path,) = dataset_paths(tiers, manifest)
    path.write_text(path.read_text().replace('"a"', '"b"'))
    with pytest.raises(
        DigestMismatch, match=rf"{path}: found sha256 [0-9a-f]{{64}}; recorded {manifest.files[0].sha256}"
    ):
        verify_dataset(tiers, manifest)
    path.write_text("longer than it was")
    with pytest.raises(DigestMismatch, match="found 18 bytes; recorded 14"):
        verify_dataset(tiers, manifest)
    path.unlink()
    with pytest.raises(DigestMismatch, match="the file is missing"):
        verify_dataset(tiers, manifest)


def test_a_recorded_path_cannot_leave_durable(tiers: Tiers, tmp_path: Path) -> None:
    manifest = register_dataset(tiers, [write_rows(tmp_path / "a.jsonl", {"text": "a"})], DEMO, clock=CLOCK)
    outside = FileDigest(path="../a.jsonl", size_bytes=1, sha256="0" * 64)
    with pytest.raises(StorageError, match="leads out of the durable tier"):
        dataset_paths(tiers, manifest.model_copy(update={"files": (outside,)}))


def test_data_left_by_a_killed_registration_is_replaced(tiers: Tiers, tmp_path: Path) -> None:
    write_rows(tiers.datasets / "demo_v1.jsonl", {"text": "left"})
    write_rows(tiers.datasets / "demo_v2" / "left.jsonl", {"text": "left"})
    one = write_rows(tmp_path / "one.jsonl", {"text": "a"})
    two = [write_rows(tmp_path / name, {"text": name}) for name in ("b.jsonl", "c.jsonl")]
    verify_dataset(tiers, register_dataset(tiers, [one], DEMO, clock=CLOCK))
    verify_dataset(tiers, register_dataset(tiers, two, DEMO, clock=CLOCK))
    assert sorted(path.name for path in (tiers.datasets / "demo_v2").iterdir()) == ["b.jsonl", "c.jsonl"]


def test_many_registering_at_once_get_a_version_each(tiers: Tiers, tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from nexa_contracts.clock import SystemClock
        from nexa_contracts.dataset import SourceProvenance
        from nexa_infra.storage.layout import Tiers
        from nexa_infra.storage.registration import DatasetDescription, register_dataset
        folder, source = map(Path, sys.argv[1:])
        clock = SystemClock()
        tiers = Tiers(folder / "scratch", folder / "durable", folder / "shared")
        provenance = SourceProvenance(origin="a test", collected_at=clock.now(), collected_by="a test")
        register_dataset(tiers, [source], DatasetDescription("demo", provenance), clock=clock)
        """
    )
    files = [write_rows(tmp_path / f"{number % 3}.jsonl", {"number": number % 3}) for number in range(6)]
    writers = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path), str(path)]) for path in files]
    assert [writer.wait() for writer in writers] == [0] * 6
    assert list_versions(tiers) == {"demo": [1, 2, 3]}
    for manifest in list_datasets(tiers):
        verify_dataset(tiers, manifest)
    assert len(read_yaml(tiers.dataset_registry).data["datasets"]["demo"]["versions"]) == 3


def test_without_pyarrow_the_error_names_the_extra(tmp_path: Path) -> None:
    source = write_parquet(tmp_path / "a.parquet", text=["a"])
    program = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from pathlib import Path; from nexa_contracts.errors import MissingExtra\n"
        "from nexa_infra.storage.dataset_formats import inspect_file\n"
        "try: inspect_file(Path(sys.argv[1]), source=Path('a.parquet'))\n"
        "except MissingExtra as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(source)], capture_output=True, text=True, check=True)
    expected = MissingExtra("eval", package="pyarrow", needed_for="reading a.parquet")
    assert done.stdout.strip() == str(expected)


@pytest.mark.parametrize(
    ("text", "label"),
    [("a_v1", ("a", 1)), ("a_v1_v12", ("a_v1", 12)), ("a", None), ("a_v0", None), ("_v1", None), ("a_v1x", None)],
)
def test_a_label_is_a_name_with_a_version(text: str, label: tuple[str, int] | None) -> None:
    assert split_label(text) == label
