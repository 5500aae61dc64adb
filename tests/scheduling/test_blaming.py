from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nexa_contracts.states import NODE_UNHEALTHY, JobState
from nexa_infra.health.ledger import Ledger
from nexa_infra.scheduling.backend import render_spec
from nexa_infra.scheduling.blaming import find_fault, record_fault
from nexa_infra.scheduling.entry import Entry, read_entry
from nexa_infra.scheduling.records import Attempt, Failure
from nexa_infra.testing.backend import make_request

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ECC = "torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered"


def attempt(kind: str, message: str, *evidence: str, state: JobState = JobState.FAILED) -> Attempt:
    return Attempt(
        run_id="run_20260102_030405_k3f9",
        number=1,
        state=state,
        started_at=NOW,
        ended_at=NOW,
        seconds=1.0,
        hostname="n3",
        failure=Failure(kind, message, evidence),
    )


@pytest.mark.parametrize(
    ("ended", "fault"),
    [
        (attempt("crash", ECC), ECC),
        (attempt("crash", "ended with status 1", "Traceback", ECC), ECC),
        (attempt("crash", "NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus"), "NVRM: Xid (PCI:0000:3b:00)"),
        (attempt("lost", "n3 went down", state=JobState.NODE_FAILED), "n3 went down"),
        (attempt("crash", "ValueError: no such file"), None),
        (attempt("out_of_memory", "CUDA out of memory", state=JobState.OUT_OF_MEMORY), None),
        (attempt(NODE_UNHEALTHY, "n3: gpu_ecc fail", state=JobState.NODE_FAILED), None),
        (replace(attempt("crash", ECC), failure=None), None),
    ],
)
def test_only_what_can_be_the_nodes_doing_is_held_against_it(ended: Attempt, fault: str | None) -> None:
    found = find_fault(ended, nodes=1)
    assert (found is None) == (fault is None)
    assert (fault or "") in (found or "")


def test_of_several_nodes_a_log_does_not_say_whose_gpu_broke() -> None:
    assert find_fault(attempt("crash", ECC), nodes=2) is None
    assert find_fault(attempt("lost", "n3 went down", state=JobState.NODE_FAILED), nodes=2) is not None


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    spec = tmp_path / "spec.json"
    spec.write_text(render_spec(make_request(tmp_path, "print()")))
    return replace(read_entry(spec, 0), health={"ledger": str(tmp_path / "ledger.jsonl")})


def test_a_run_counts_once_against_its_node_however_often_it_is_looked_at(entry: Entry) -> None:
    for _ in range(2):
        record_fault(entry, attempt("crash", ECC))
    record_fault(entry, attempt("lost", "down", state=JobState.NODE_FAILED), node="n5")
    assert entry.ledger is not None
    assert [(each.node, each.job, each.at) for each in Ledger(entry.ledger).read()[0]] == [
        ("n3", entry.run_id, NOW),
        ("n5", entry.run_id, NOW),
    ]


def test_a_node_has_the_name_that_the_cluster_gave_it(entry: Entry) -> None:
    record_fault(entry, replace(attempt("crash", ECC), hostname="rack1.n7"))
    assert entry.ledger is not None
    assert [each.node for each in Ledger(entry.ledger).read()[0]] == ["rack1.n7"]


def test_a_ledger_that_is_not_there_or_cannot_be_written_hinders_nothing(
    entry: Entry, caplog: pytest.LogCaptureFixture
) -> None:
    record_fault(replace(entry, health=None), attempt("crash", ECC))
    assert entry.ledger is not None
    entry.ledger.mkdir()
    record_fault(entry, attempt("crash", ECC))
    assert "node is not recorded in the quarantine ledger node=n3" in caplog.text
