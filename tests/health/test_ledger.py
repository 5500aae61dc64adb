from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_contracts.errors import ConfigError, StorageError
from nexa_contracts.health import LedgerEntry
from nexa_infra.health.ledger import Ledger, judge_entries
from tests.health.health_made import NOW

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "health" / "ledger.jsonl")


def test_two_failures_of_different_jobs_put_a_node_out_until_it_expires(ledger: Ledger) -> None:
    assert ledger.record_failure("n1", job="run_a", reason="XID 79", now=NOW) is None
    assert ledger.quarantined(NOW) == frozenset()
    made = ledger.record_failure("n1", job="run_b", reason="XID 79", now=NOW + HOUR)
    assert made is not None
    assert "run_a, run_b: XID 79" in made.reason
    assert ledger.quarantined(NOW + HOUR) == {"n1"}
    assert ledger.quarantined(NOW + HOUR + DAY) == frozenset()


def test_one_job_that_fails_again_and_again_says_nothing_of_the_node(ledger: Ledger) -> None:
    for hour in range(5):
        ledger.record_failure("n1", job="run_a", reason="bug", now=NOW + hour * HOUR)
    assert ledger.quarantined(NOW + 5 * HOUR) == frozenset()
    assert len(ledger.read()[0]) == 1


def test_a_job_counts_again_after_its_node_was_cleared(ledger: Ledger) -> None:
    ledger.record_failure("n1", job="run_a", reason="x", now=NOW)
    ledger.clear("n1", reason="", now=NOW)
    ledger.record_failure("n1", job="run_a", reason="x", now=NOW)
    assert [entry.event for entry in ledger.read()[0]] == ["failure", "clear", "failure"]


def test_failures_weeks_apart_are_not_one_nodes_doing(ledger: Ledger) -> None:
    ledger.record_failure("n1", job="run_a", reason="x", now=NOW)
    ledger.record_failure("n1", job="run_b", reason="x", now=NOW + 8 * DAY)
    assert ledger.quarantined(NOW + 8 * DAY) == frozenset()


def test_a_person_may_keep_a_node_out_and_let_it_work_again(ledger: Ledger) -> None:
    ledger.add("n2", reason="fan is loud", now=NOW, lasts=3 * DAY)
    assert [entry.node for entry in ledger.standing(NOW + 2 * DAY)] == ["n2"]
    assert ledger.clear("n2", reason="fan replaced", now=NOW + HOUR)
    assert ledger.quarantined(NOW + HOUR) == frozenset()
    assert not ledger.clear("n2", reason="", now=NOW + HOUR)


def test_clearing_forgets_the_failures_before(ledger: Ledger) -> None:
    ledger.record_failure("n1", job="run_a", reason="x", now=NOW)
    ledger.clear("n1", reason="", now=NOW)
    ledger.record_failure("n1", job="run_b", reason="x", now=NOW)
    assert ledger.quarantined(NOW) == frozenset()


def test_a_line_that_was_cut_off_does_not_swallow_the_next_one(ledger: Ledger, tmp_path: Path) -> None:
    ledger.add("n1", reason="a", now=NOW)
    path = tmp_path / "health" / "ledger.jsonl"
    path.write_bytes(path.read_bytes() + b'{"node": "n9", "ev')
    ledger.add("n2", reason="b", now=NOW)
    assert ledger.quarantined(NOW) == {"n1", "n2"}
    assert len(ledger.read()[1]) == 1


def test_a_ledger_that_is_not_there_is_empty_and_one_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    assert Ledger(tmp_path / "none" / "ledger.jsonl").quarantined(NOW) == frozenset()
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(StorageError, match="reading failed"):
        Ledger(tmp_path / "folder.jsonl").quarantined(NOW)


@pytest.mark.parametrize("node", ["", "a b", "n1,n2", "--all", "n[1-3]", "x\ny"])
def test_what_is_no_name_of_a_node_never_reaches_the_file(ledger: Ledger, node: str) -> None:
    with pytest.raises(ConfigError, match="node: found"):
        ledger.add(node, reason="x", now=NOW)
    assert ledger.read() == ((), ())


ENTRIES = st.lists(
    st.builds(
        LedgerEntry,
        at=st.integers(0, 500).map(lambda hours: NOW + hours * HOUR),
        node=st.sampled_from(["n1", "n2", "n3"]),
        event=st.sampled_from(["failure", "quarantine", "clear"]),
        job=st.sampled_from(["run_a", "run_b", "run_c"]),
        expires_at=st.none() | st.integers(0, 900).map(lambda hours: NOW + hours * HOUR),
    ),
    max_size=12,
)


@given(ENTRIES, st.integers(0, 2000))
def test_what_is_told_of_one_node_never_changes_another(entries: list[LedgerEntry], hours: int) -> None:
    now = NOW + hours * HOUR
    whole = {standing.node: standing for standing in judge_entries(entries, now=now)}
    for node in ("n1", "n2", "n3"):
        alone = judge_entries([entry for entry in entries if entry.node == node], now=now)
        assert list(alone) == ([whole[node]] if node in whole else [])


@given(ENTRIES)
def test_every_quarantine_ends_and_a_cleared_node_is_free(entries: list[LedgerEntry]) -> None:
    assert judge_entries(entries, now=NOW + 10_000 * HOUR) == ()
    cleared = [*entries, LedgerEntry(at=NOW, node="n1", event="clear")]
    assert "n1" not in {standing.node for standing in judge_entries(cleared, now=NOW)}


@given(ENTRIES)
def test_a_line_reads_as_it_was_written(entries: list[LedgerEntry]) -> None:
    lines = [entry.model_dump_json() for entry in entries]
    assert [LedgerEntry.from_json(line, source="x") for line in lines] == entries
