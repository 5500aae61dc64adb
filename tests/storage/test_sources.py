"""The built-in dataset is built once, from the interpreter's own library, with its provenance."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

import pytest

from nexa_contracts.errors import DigestMismatch, NotFound
from nexa_infra.storage.datasets import dataset_paths, find_dataset, list_versions, verify_dataset
from nexa_infra.storage.layout import Tiers
from nexa_infra.storage.sources import BUILT_IN_SOURCES, PYTHON_STDLIB, ensure_python_stdlib, ensure_source
from nexa_infra.testing.clock import FakeClock


@pytest.fixture
def tiers(tmp_path: Path) -> Tiers:
    return Tiers(tmp_path / "scratch", tmp_path / "durable", tmp_path / "shared")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "lib"
    files = {
        "os.py": b"import abc\n",
        "json/decoder.py": b"x = 1\r\n",
        "latin.py": b"# -*- coding: latin-1 -*-\nname = '\xe9'\n",
        "empty.py": b"\n",
        "test/test_os.py": b"assert True\n",
        "site-packages/other.py": b"other = 1\n",
        "json/__pycache__/decoder.py": b"no = 1\n",
        "_sysconfigdata__linux.py": b"prefix = '/builder'\n",
        "notes.txt": b"not a module\n",
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def read_rows(tiers: Tiers) -> list[dict[str, str]]:
    from pyarrow import parquet

    (path,) = dataset_paths(tiers, find_dataset(tiers, PYTHON_STDLIB))
    rows: list[dict[str, str]] = parquet.read_table(path).to_pylist()
    return rows


def test_each_module_is_a_row_decoded_by_its_own_coding_line(tiers: Tiers, library: Path) -> None:
    manifest = ensure_python_stdlib(tiers, clock=FakeClock(), folder=library)
    assert read_rows(tiers) == [
        {"path": "json/decoder.py", "text": "x = 1\n"},
        {"path": "latin.py", "text": "# -*- coding: latin-1 -*-\nname = 'é'\n"},
        {"path": "os.py", "text": "import abc\n"},
    ]
    assert (manifest.label, manifest.rows, manifest.licence) == ("python_stdlib_v1", 3, "PSF-2.0")
    verify_dataset(tiers, manifest)


def test_the_provenance_names_the_interpreter_and_every_source(tiers: Tiers, library: Path) -> None:
    provenance = ensure_python_stdlib(tiers, clock=FakeClock(), folder=library).provenance
    assert platform.python_version() in provenance.origin
    assert provenance.details["version"] == platform.python_version()
    digests = {file.path: file.sha256 for file in provenance.source_files}
    assert digests["os.py"] == hashlib.sha256(b"import abc\n").hexdigest()
    assert len(digests) == 3


def test_it_is_built_once_an_interpreter(tiers: Tiers, library: Path) -> None:
    first = ensure_python_stdlib(tiers, clock=FakeClock(), folder=library)
    (library / "os.py").write_text("changed = True\n")
    assert ensure_python_stdlib(tiers, clock=FakeClock(), folder=library) == first
    assert list_versions(tiers) == {PYTHON_STDLIB: [1]}


def test_a_stored_file_that_was_cut_off_is_named(tiers: Tiers, library: Path) -> None:
    manifest = ensure_python_stdlib(tiers, clock=FakeClock(), folder=library)
    (path,) = dataset_paths(tiers, manifest)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DigestMismatch, match=str(path)):
        ensure_python_stdlib(tiers, clock=FakeClock(), folder=library)


def test_a_library_without_sources_is_an_error(tiers: Tiers, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"found no \.py file"):
        ensure_python_stdlib(tiers, clock=FakeClock(), folder=tmp_path / "nothing")


def test_this_interpreters_library_is_megabytes_of_text(tiers: Tiers) -> None:
    manifest = ensure_source(tiers, PYTHON_STDLIB, clock=FakeClock())
    rows = read_rows(tiers)
    assert manifest.rows == len(rows)
    assert sum(len(row["text"]) for row in rows) > 4_000_000
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)


def test_a_name_that_is_not_built_in_is_looked_up(tiers: Tiers) -> None:
    assert PYTHON_STDLIB in BUILT_IN_SOURCES
    with pytest.raises(NotFound, match="dataset other"):
        ensure_source(tiers, "other", clock=FakeClock())
