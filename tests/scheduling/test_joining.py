"""Nodes before their processes start, as real programs: checked, told to leave, refused, and what is said of it."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from nexa_contracts import env
from nexa_contracts.exit_codes import WorkExit
from nexa_contracts.health import HealthPlan, HealthReport, HealthRequest, WatchedFolder
from nexa_contracts.rendezvous import JoinDecision
from nexa_contracts.run import WorkResult
from nexa_infra.health.ledger import Ledger
from nexa_infra.process import Child, SystemRunner
from nexa_infra.storage.run_dir import RunDir
from tests.scheduling.local_machine import wait_until

RUN_ID = "run_20260102_030405_k3f9"
PROGRAM = (sys.executable, "-c", "import os; print('NEXA_HEALTH' in os.environ, file=open('ran', 'w'))")
HANGS = "#!/bin/sh\necho $$ > {place}\nexec sleep 600\n"


class Site:
    """A folder with a run that is about to start its first attempt, and programs that go before those on PATH."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run_dir = RunDir(root / "run")
        self.ledger = Ledger(root / "ledger.jsonl")
        self.tools = root / "tools"
        self.tools.mkdir()
        self.folder = root / "data"
        self.folder.mkdir()

    def add_tool(self, name: str, text: str) -> None:
        (self.tools / name).write_text(text)
        (self.tools / name).chmod(0o755)

    def plan(self, **request: Any) -> HealthPlan:
        watched = (WatchedFolder(path=str(self.folder), must_write=True),)
        asked = HealthRequest.model_validate({"node": "any", "gpus": 0, "folders": watched, **request})
        return HealthPlan(ledger=str(self.root / "ledger.jsonl"), request=asked, join_s=20.0)

    def start(self, module: str, words: Sequence[str], plan: HealthPlan | str, **more: str) -> Child:
        """Start an entry; its words go before those of the program."""
        text = plan if isinstance(plan, str) else plan.model_dump_json()
        told: Mapping[str, str] = {
            **os.environ,
            "PATH": f"{self.tools}:{os.environ['PATH']}",
            env.RUN_DIR: str(self.run_dir.path),
            env.ATTEMPT: "1",
            env.HEALTH: text,
            "SLURMD_NODENAME": "n7",
            **more,
        }
        argv = (sys.executable, "-m", f"nexa_infra.scheduling.{module}", *words, "--", *PROGRAM)
        return SystemRunner().start(argv, output="pipes" if more else self.said, cwd=self.root, env=told)

    def start_alone(self, plan: HealthPlan | str) -> Child:
        return self.start("node_entry", self.words(nodes=1), plan)

    def words(self, *, nodes: int, spares: int = 0) -> list[str]:
        return [f"--nodes={nodes}", f"--spares={spares}", "--processes=1", "--max-restarts=0", f"--run-id={RUN_ID}"]

    @property
    def said(self) -> Path:
        return self.root / "said"

    @property
    def has_run(self) -> bool:
        return (self.root / "ran").exists()

    def result(self) -> WorkResult:
        return WorkResult.from_json(self.run_dir.result(1).read_bytes(), source="result")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def end(child: Child) -> int | None:
    return child.wait(120.0)


def test_a_healthy_node_starts_and_its_report_stays(site: Site) -> None:
    assert end(site.start_alone(site.plan())) == 0, site.said.read_text()
    assert (site.root / "ran").read_text() == "False\n"  # the program is told nothing of it
    report = HealthReport.from_json((site.run_dir.meeting(1) / "report-n7.json").read_bytes(), source="report")
    assert report.is_healthy


def test_a_node_that_is_alone_and_sick_starts_nothing_and_says_why(site: Site) -> None:
    assert end(site.start_alone(site.plan(memory_bytes=1 << 60))) == 1
    assert not site.has_run
    failure = site.result().failure
    assert failure is not None
    assert failure.kind == "node_unhealthy"
    assert failure.message.startswith("the training does not start: n7: memory fail: ")
    assert "healthy: 972.8 PiB or more" in failure.message
    assert failure.message in site.said.read_text()
    assert [(entry.node, entry.job) for entry in site.ledger.read()[0]] == [("n7", RUN_ID)]


def test_a_disk_of_a_node_that_was_alone_is_not_held_against_it(site: Site) -> None:
    site.folder.rmdir()
    assert end(site.start_alone(site.plan())) == 1
    assert "n7: disk " in site.said.read_text()
    assert site.ledger.read() == ((), ())


def test_what_can_not_be_measured_comes_with_what_to_do(site: Site) -> None:
    site.add_tool("nvidia-smi", "#!/bin/sh\necho '[N/A]'\n")
    assert end(site.start_alone(site.plan(gpus=1))) == 1
    failure = site.result().failure
    assert failure is not None
    assert "gpu_driver fail: not measured (nvidia-smi: found '[N/A]'" in failure.message
    assert "health.accept_unknown" in failure.evidence[-1]


@pytest.fixture
def checking(site: Site) -> Iterator[tuple[Site, Child]]:
    """Give a node whose check has come to a tool that hangs."""
    place = site.root / "hangs"
    site.add_tool("nvidia-smi", HANGS.format(place=place))
    child = site.start_alone(site.plan(gpus=1))
    wait_until(lambda: place.exists() and place.read_text().endswith("\n"), what="the tool that hangs")
    yield site, child
    child.send_signal(signal.SIGKILL)
    for pid in filter(psutil.pid_exists, [int(place.read_text())]):
        os.kill(pid, signal.SIGKILL)


def test_a_node_that_is_told_to_leave_while_it_is_checked_leaves_at_once(checking: tuple[Site, Child]) -> None:
    site, child = checking
    os.kill(child.pid, signal.SIGTERM)
    assert end(child) == WorkExit.SAVED_AND_LEFT
    assert not site.has_run


def test_a_check_that_dies_starts_nothing(checking: tuple[Site, Child]) -> None:
    site, child = checking
    (check,) = psutil.Process(child.pid).children()
    check.kill()
    assert end(child) == 1
    assert site.said.read_text() == "n7 does not join: its check ended with status -9 and no answer\n"
    assert not site.has_run


@pytest.mark.parametrize("text", ["{", "[]", "5"])
def test_a_plan_that_is_none_is_named(site: Site, text: str) -> None:
    assert end(site.start_alone(text)) == 2
    assert "node entry: environment: NEXA_HEALTH: " in site.said.read_text()


def test_of_two_nodes_the_spare_leaves_with_0_and_the_other_trains(site: Site) -> None:
    children = start_nodes(site, site.plan(), 0, 1)
    assert [end(child) for child in children] == [0, 0]
    assert site.has_run
    decision = JoinDecision.from_json((site.run_dir.meeting(1) / "decision-1.json").read_bytes(), source="decision")
    assert (decision.state, decision.joined, decision.spares) == ("go", ("localhost",), ("127.0.0.1",))
    for child in children:
        child.close()


def start_nodes(site: Site, plan: HealthPlan, *numbers: int, **more: str) -> list[Child]:
    """Start these of two nodes, of which one trains and one is a spare."""
    site.add_tool("scontrol", "#!/bin/sh\necho localhost; echo 127.0.0.1\n")
    step = {"SLURM_STEP_NODELIST": "any", "SLURM_JOB_ID": str(os.getpid()), **more}
    words = site.words(nodes=1, spares=1)
    return [site.start("node_entry", words, plan, **step, SLURM_NODEID=str(number)) for number in numbers]


def test_a_node_that_vanished_after_its_check_is_replaced_by_the_spare(site: Site) -> None:
    assert end(site.start_alone(site.plan())) == 0
    (site.root / "ran").unlink()
    # It reports, and is never heard of again.
    report = (site.run_dir.meeting(1) / "report-n7.json").read_text().replace('"n7"', '"localhost"')
    site.run_dir.meeting(2).mkdir(parents=True)
    (site.run_dir.meeting(2) / "report-localhost.json").write_text(report)
    plan = site.plan().model_copy(update={"join_s": 1.0})
    (spare,) = start_nodes(site, plan, 1, **{env.ATTEMPT: "2"})
    assert end(spare) == 0
    assert site.has_run
    decision = JoinDecision.from_json((site.run_dir.meeting(2) / "decision-2.json").read_bytes(), source="decision")
    assert (decision.state, decision.joined) == ("go", ("127.0.0.1",))
    assert decision.refused == {"localhost": "vanished between its check and joining"}
    assert [(entry.node, entry.job) for entry in site.ledger.read()[0]] == [("localhost", RUN_ID)]
    spare.close()


def test_a_node_that_cannot_write_where_they_meet_leaves_and_the_spare_goes_on(site: Site) -> None:
    plan = site.plan().model_copy(update={"report_s": 3.0})
    (blind,) = start_nodes(site, plan, 0, **{env.RUN_DIR: "/proc/none"})
    (spare,) = start_nodes(site, plan, 1)
    assert [end(blind), end(spare)] == [0, 0]
    assert site.has_run
    decision = JoinDecision.from_json((site.run_dir.meeting(1) / "decision-1.json").read_bytes(), source="decision")
    assert decision.refused == {"localhost": "vanished: no report in 3 s"}
    for child in (blind, spare):
        child.close()


def test_a_node_that_is_alone_and_cannot_write_its_report_says_so_in_one_line(site: Site) -> None:
    site.run_dir.path.mkdir()
    site.run_dir.attempts.write_text("no folder")
    assert end(site.start_alone(site.plan())) == 1
    (line,) = site.said.read_text().splitlines()
    assert line.startswith("StorageError: n7 cannot report: ")
    assert not site.has_run


def test_a_step_whose_nodes_all_stay_out_is_no_success(site: Site) -> None:
    site.add_tool("srun", "#!/bin/sh\necho 'StorageError: n1 cannot report: disk full'\n")
    assert end(site.start("step_entry", ["--nodes=2", "--cpus=1"], site.plan())) == 1
    assert "step entry: no node started" in site.said.read_text()
    assert not site.run_dir.result(1).exists()


def test_a_step_tells_the_job_why_too_few_nodes_were_left(site: Site) -> None:
    decision = JoinDecision(round=0, state="stop", refused={"n1": "gpu_ecc fail: 3"}, reason="1 of 2 nodes can join")
    site.run_dir.meeting(1).mkdir(parents=True)
    (site.run_dir.meeting(1) / "decision-0.json").write_text(decision.to_json())
    site.add_tool("srun", "#!/bin/sh\nexit 0\n")
    assert end(site.start("step_entry", ["--nodes=2", "--cpus=1"], site.plan())) == 1
    failure = site.result().failure
    assert failure is not None
    assert (failure.kind, failure.message) == (
        "node_unhealthy",
        "the training does not start: 1 of 2 nodes can join",
    )


def test_a_step_that_is_told_to_leave_before_its_nodes_have_met_has_left(site: Site) -> None:
    site.add_tool("srun", f"#!/bin/sh\necho > {site.root}/begun\nread word && echo $word > {site.root}/told\n")
    child = site.start("step_entry", ["--nodes=2", "--cpus=1"], site.plan())
    wait_until((site.root / "begun").exists, what="srun")
    os.kill(child.pid, signal.SIGTERM)
    assert end(child) == WorkExit.SAVED_AND_LEFT
    assert (site.root / "told").read_text() == "TERM\n"


def test_a_ledger_that_cannot_be_written_hinders_nothing(site: Site) -> None:
    (site.root / "ledger.jsonl").mkdir()
    assert end(site.start_alone(site.plan(memory_bytes=1 << 60))) == 1
    assert "nexa: the quarantine ledger: " in site.said.read_text()
    assert json.loads(site.run_dir.result(1).read_text())["failure"]["kind"] == "node_unhealthy"
