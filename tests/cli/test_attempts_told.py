"""Why a run is on another attempt is told while it goes on."""

from __future__ import annotations

import pytest

from nexa_cli.views import print_view
from nexa_contracts.clock import SystemClock
from nexa_contracts.run import AttemptRecord, FailureNote
from nexa_contracts.states import JobState
from nexa_infra.operations.status import RunView, SubmissionView
from tests.cli.cli_process import Cli

RUN = "run_20260102_030405_abcd"
SAID = "node n3: disk: 0 bytes free in /tmp"


def test_show_and_status_tell_how_the_attempts_ended_so_far(cli: Cli) -> None:
    cli.write("sweep.yaml", "base: hello.yaml\naxes: {params.x: {values: [1]}}\n")
    run_id = cli.json("sweep", "sweep.yaml", "--no-submit")["run_ids"][0]
    now = SystemClock().now()
    record = AttemptRecord(
        run_id=run_id,
        number=1,
        state=JobState.NODE_FAILED,
        started_at=now,
        ended_at=now,
        seconds=12.0,
        failure=FailureNote(kind="lost", message=SAID),
        hostname="n3",
    )
    path = cli.project.attempt(run_id, 1)
    path.parent.mkdir(parents=True)
    path.write_text(record.to_json())
    shown = cli.ok("show", run_id)
    assert f"not ended: nexa status {run_id}" in shown
    assert f"NODE_FAILED after 12s: lost, {SAID}" in shown
    assert f"attempt 1  NODE_FAILED: {SAID}" in cli.ok("status", run_id)


def test_what_a_failure_says_already_is_not_printed_again(capsys: pytest.CaptureFixture[str]) -> None:
    run = RunView(
        run_id=RUN,
        name="n",
        state=JobState.NODE_FAILED,
        failure=f"node_unhealthy: {SAID}; not tried on other nodes",
        evidence=(SAID, "df: /tmp full"),
    )
    print_view(SubmissionView(RUN, (run,)))
    said = capsys.readouterr().out
    assert (said.count(SAID), said.count("df: /tmp full")) == (1, 1)
