from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_contracts.errors import CommandTimedOut
from nexa_infra.health.checks.driver import DRAIN_XIDS, WARN_XIDS, judge_xids
from nexa_infra.health.dcgm import diagnose
from nexa_infra.health.kernel_log import KernelLog, parse_xids, read_kernel_log
from nexa_infra.process import Completed
from nexa_infra.testing.process import FakeRunner
from tests.health.health_made import make_sources, recorded

JOURNAL = "2026-11-22T10:00:00+00:00 n1 kernel: NVRM: Xid (PCI:0000:3b:00 GPU-I:05): 94, pid=1, Contained: SM 0x1\n"


def test_errors_of_the_driver_are_found_with_their_line() -> None:
    found = parse_xids(recorded("dmesg.txt"))
    assert [(xid.number, xid.device) for xid in found] == [(31, "0000:3b:00"), (79, "0000:86:00")]
    check = judge_xids(KernelLog("dmesg", found))
    assert check.result == "fail"
    assert check.measured == "XID 79"
    assert "GPU has fallen off the bus" in check.evidence


def test_the_journal_is_asked_where_the_kernel_log_is_closed() -> None:
    refused = Completed(1, "", "dmesg: read kernel buffer failed: Operation not permitted\n")
    runner = FakeRunner().answer(("dmesg",), refused).answer(("journalctl",), JOURNAL)
    check = judge_xids(read_kernel_log(make_sources(runner)))
    assert (check.result, check.measured) == ("warn", "XID 94")
    assert check.evidence.startswith("journalctl: ")


@pytest.mark.parametrize("journal", [Completed(0, "", "No journal files were opened due to permissions\n"), None])
def test_a_log_that_nobody_shows_is_unknown_and_not_clean(journal: Completed | None) -> None:
    runner = FakeRunner().answer(("dmesg",), CommandTimedOut("dmesg: still running after 20 s"))
    if journal is not None:
        runner.answer(("journalctl",), journal)
    check = judge_xids(read_kernel_log(make_sources(runner)))
    assert check.result == "unknown"
    assert "still running" in check.evidence


def test_no_error_is_healthy_and_one_that_nobody_listed_is_told() -> None:
    assert judge_xids(KernelLog("dmesg", ())).result == "ok"
    assert judge_xids(KernelLog("dmesg", parse_xids("NVRM: Xid (PCI:0000:3b:00): 999, new"))).result == "warn"
    assert not DRAIN_XIDS & WARN_XIDS


@given(st.text())
def test_any_text_can_be_a_kernel_log(text: str) -> None:
    assert all(xid.line for xid in parse_xids(text))


def test_a_diagnosis_is_read_in_the_shapes_of_both_versions() -> None:
    passed = diagnose(make_sources(FakeRunner().answer(("dcgmi",), recorded("dcgmi_pass.json"))))
    failed = diagnose(make_sources(FakeRunner().answer(("dcgmi",), Completed(226, recorded("dcgmi_fail.json")))))
    assert passed is not None
    assert failed is not None
    assert (passed.result, passed.measured) == ("ok", "3 of 3 tests")
    assert failed.result == "fail"
    assert "software: Fail" in failed.evidence


def test_a_diagnosis_that_cannot_be_made_is_unknown_and_without_dcgm_there_is_none() -> None:
    silent = Completed(1, "Error: unable to establish a connection to the specified host: localhost\n")
    found = diagnose(make_sources(FakeRunner().answer(("dcgmi",), silent)))
    assert found is not None
    assert found.result == "unknown"
    assert "unable to establish a connection" in found.evidence
    assert diagnose(make_sources(FakeRunner())) is None
