"""Commands about Slurm where there is none, or none that answers: one line that says what to do, and nothing broken."""

from __future__ import annotations

import json
import os
from pathlib import Path

from nexa_contracts.clock import SystemClock
from nexa_infra.operations.context import open_context
from nexa_infra.operations.doctor import examine
from nexa_infra.operations.watching import Keeper
from nexa_infra.process import Call, Completed
from nexa_infra.testing.clock import FakeClock
from nexa_infra.testing.process import FakeRunner
from nexa_infra.testing.slurm import FakeSlurm
from tests.cli.cli_process import Cli

SWEEP = """\
run:
  command: [python3, -c, print(1)]
  resources: {memory: 64MiB, walltime: 5m}
axes:
  params.x: {values: [1, 2]}
"""
ABSENT = {"SLURM_CONF": "/nonexistent/slurm.conf"}


def test_without_slurm_nothing_is_written_and_the_line_says_what_to_do(cli: Cli) -> None:
    cli.write("sweep.yaml", SWEEP)
    done = cli("sweep", "sweep.yaml", "--backend", "slurm", "--submit", env=ABSENT)
    assert done.returncode == 4
    assert "SLURM_CONF=/nonexistent/slurm.conf: no such file" in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert not cli.project.manifests.exists()


def test_without_slurm_a_plan_can_be_looked_at(cli: Cli) -> None:
    cli.write("sweep.yaml", SWEEP)
    shown = cli.ok("sweep", "sweep.yaml", "--backend", "slurm", "--dry-run", env=ABSENT)
    assert "2 runs planned on slurm" in shown
    assert "    | #!/bin/sh" in shown
    assert "--array=0-1" in shown
    assert not cli.project.runs.exists()


def test_watch_ends_when_nothing_is_left_to_look_after(cli: Cli) -> None:
    assert cli.ok("watch") == "every run has ended\n"
    assert json.loads(cli.ok("watch", "--once", "--json"))["counts"] == {}


def test_doctor_names_limits_of_the_site_file_that_the_cluster_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "nexa.yaml").write_text("backend: slurm\nslurm: {max_array_size: 5000, partition: gpu}\n")
    environment = {**os.environ}
    context = open_context(tmp_path, clock=SystemClock(), runner=OnlySlurm(), environment=environment)
    checks = {check.name: check for check in examine(context)}
    assert checks["slurm"].health == "ok"
    assert checks["slurm site"].found == "slurm.partition: found gpu; allowed: main"
    assert checks["slurm arrays"].found == (
        "slurm.max_array_size: found 5000; allowed: at most 1001, the cluster's MaxArraySize"
    )


def test_doctor_says_nothing_of_slurm_where_nobody_wants_it(tmp_path: Path) -> None:
    context = open_context(tmp_path, runner=FakeRunner(), environment=dict(os.environ))
    assert [check for check in examine(context) if check.name.startswith("slurm")] == []


def test_a_watcher_names_what_it_cannot_do_and_goes_on(tmp_path: Path) -> None:
    keeper = Keeper(open_context(tmp_path, clock=FakeClock(), environment=dict(os.environ)))
    look = keeper.look()
    assert (look.is_over, look.troubles) == (True, ())


class OnlySlurm(FakeSlurm):
    """A machine with Slurm and nothing else."""

    def _run(self, call: Call) -> Completed:
        return super()._run(call) if call.argv[0] in ("scontrol", "sinfo") else Completed(1, argv=call.argv)
