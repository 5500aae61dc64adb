"""The journal accounts for what was created, and never explains away what it cannot know."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_contracts.errors import AlreadyExists
from nexa_infra.storage.journal import (
    JOURNAL_NAME,
    Position,
    Span,
    create_journaled,
    explain,
    find_end,
    folder_mtime_ns,
    journaled,
    read_spans,
)

NOWHERE = Position(inode=0, offset=0)


def read_all(folder: Path) -> list[Span]:
    found = read_spans(folder, Position(inode=find_end(folder).inode, offset=0))
    assert found is not None
    return found[0]


def test_a_created_file_is_named_and_its_span_ends_at_the_folders_time(tmp_path: Path) -> None:
    create_journaled(tmp_path / "run_a.json", b"{}")
    (span,) = read_all(tmp_path)
    assert span.names == ("run_a.json",)
    assert span.after_ns == folder_mtime_ns(tmp_path)


def test_files_created_one_after_the_other_explain_the_folders_time(tmp_path: Path) -> None:
    create_journaled(tmp_path / "run_a.json", b"{}")
    known_ns = folder_mtime_ns(tmp_path)
    for name in ("run_b.json", "run_c.json"):
        create_journaled(tmp_path / name, b"{}")
    assert explain(read_all(tmp_path)[1:], known_ns, folder_mtime_ns(tmp_path))


def test_a_file_that_exists_is_refused_and_the_time_is_still_explained(tmp_path: Path) -> None:
    create_journaled(tmp_path / "run_a.json", b"first")
    known_ns = folder_mtime_ns(tmp_path)
    with pytest.raises(AlreadyExists):
        create_journaled(tmp_path / "run_a.json", b"second")
    assert (tmp_path / "run_a.json").read_bytes() == b"first"
    assert explain(read_all(tmp_path)[1:], known_ns, folder_mtime_ns(tmp_path))


def test_the_folder_is_created_with_its_first_file(tmp_path: Path) -> None:
    create_journaled(tmp_path / "new" / "run_a.json", b"{}")
    assert [span.names for span in read_all(tmp_path / "new")] == [("run_a.json",)]


def test_a_foreign_change_between_two_creations_is_not_explained(tmp_path: Path) -> None:
    create_journaled(tmp_path / "run_a.json", b"{}")
    known_ns = folder_mtime_ns(tmp_path)
    (tmp_path / "copied.json").write_text("{}")
    os.utime(tmp_path, ns=(known_ns + 10**9, known_ns + 10**9))
    with journaled(tmp_path, ["run_b.json"]):
        os.utime(tmp_path, ns=(known_ns + 2 * 10**9, known_ns + 2 * 10**9))
    assert not explain(read_all(tmp_path)[1:], known_ns, folder_mtime_ns(tmp_path))


def test_spans_of_writers_at_the_same_time_explain_each_other() -> None:
    spans = [Span(15, 30, ("b",)), Span(10, 20, ("a",)), Span(30, 40, ())]
    assert explain(spans, 10, 40)


def test_a_wall_clock_that_went_back_is_not_explained() -> None:
    assert not explain([Span(100, 40, ("a",))], 100, 40)


@given(
    cuts=st.lists(st.integers(1, 10**6), min_size=2, max_size=20, unique=True).map(sorted),
    missing=st.integers(0, 18),
)
def test_a_chain_explains_and_a_chain_with_a_hole_does_not(cuts: list[int], missing: int) -> None:
    spans = [Span(one, other, ()) for one, other in pairwise(cuts)]
    assert explain(spans, cuts[0], cuts[-1])
    hole = missing % len(spans)
    assert not explain(spans[:hole] + spans[hole + 1 :], cuts[0], cuts[-1])


def test_half_a_line_is_left_for_the_next_reading(tmp_path: Path) -> None:
    journal = tmp_path / JOURNAL_NAME
    journal.write_bytes(b"1 2 a\n2 3 b")
    found = read_spans(tmp_path, Position(inode=journal.stat().st_ino, offset=0))
    assert found is not None
    spans, position = found
    assert [span.names for span in spans] == [("a",)]
    with journal.open("ab") as stream:
        stream.write(b".json\n")
    again = read_spans(tmp_path, position)
    assert again is not None
    assert [span.names for span in again[0]] == [("b.json",)]


@given(raw=st.binary(max_size=200))
def test_garbage_is_never_an_error(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    folder = tmp_path_factory.mktemp("garbage")
    (folder / JOURNAL_NAME).write_bytes(raw)
    assert isinstance(read_all(folder), list)


def test_a_journal_that_was_replaced_or_cut_off_is_told_apart(tmp_path: Path) -> None:
    create_journaled(tmp_path / "run_a.json", b"{}")
    end = find_end(tmp_path)
    assert read_spans(tmp_path, Position(inode=end.inode + 1, offset=end.offset)) is None
    assert read_spans(tmp_path, Position(inode=end.inode, offset=end.offset + 1)) is None
    (tmp_path / JOURNAL_NAME).unlink()
    assert read_spans(tmp_path, end) is None


def test_a_name_that_cannot_stand_in_a_line_is_left_to_the_listing(tmp_path: Path) -> None:
    create_journaled(tmp_path / "run_a.json", b"{}")
    known_ns = folder_mtime_ns(tmp_path)
    with journaled(tmp_path, ["two words.json", "new\nline.json"]):
        os.utime(tmp_path, ns=(known_ns + 1, known_ns + 1))
    assert not explain(read_all(tmp_path)[1:], known_ns, folder_mtime_ns(tmp_path))


def test_no_journal_is_an_empty_one(tmp_path: Path) -> None:
    assert find_end(tmp_path) == NOWHERE
    assert read_spans(tmp_path, NOWHERE) == ([], NOWHERE)
    assert folder_mtime_ns(tmp_path / "missing") == 0
