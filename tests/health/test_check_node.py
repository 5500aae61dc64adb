from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from nexa_contracts.clock import SystemClock
from nexa_contracts.errors import CommandTimedOut, ConfigError
from nexa_contracts.health import HealthReport, HealthRequest, WatchedFolder
from nexa_contracts.resources import Resources
from nexa_contracts.site import SlurmSite
from nexa_infra.health.remote import Cluster, check_nodes, expand_nodes, render_srun
from nexa_infra.health.run import check_node
from nexa_infra.health.sources import Sources
from nexa_infra.process import Completed, SystemRunner
from nexa_infra.scheduling.slurm.options import render_options
from nexa_infra.testing.process import FakeRunner
from tests.health.health_made import make_report, make_sources, own
from tests.health.nvml_standin import ROOT, NvmlScenes

CPU_CHECKS = ["memory", "cores", "load"]


def names(report: HealthReport) -> list[str]:
    return [check.name for check in report.checks if not check.name.startswith("disk ")]


def test_a_machine_without_gpus_is_not_asked_for_them(tmp_path: Path) -> None:
    request = HealthRequest(
        node="n1", folders=(WatchedFolder(path=str(tmp_path), must_write=True),), clock_folder=str(tmp_path)
    )
    report = check_node(Sources(SystemRunner(), SystemClock(), {}), request)
    assert [name for name in names(report) if not name.startswith("gpu_")] == [*CPU_CHECKS, "clock"]
    assert report.facts.environment_digest is not None
    assert f"disk {tmp_path}" in [check.name for check in report.checks]
    assert HealthReport.from_json(report.to_json(), source="x") == report


def test_gpus_that_were_asked_for_and_are_not_there_fail_and_say_so() -> None:
    runner = FakeRunner().answer(own("nvml_reader"), '{"absent": "no NVML"}\n')
    report = check_node(make_sources(runner), HealthRequest(node="n1", gpus=2))
    found = {check.name: check for check in report.checks}
    assert found["gpu_driver"].result == "fail"
    assert "nvidia-smi" in found["gpu_driver"].evidence
    assert (found["gpu_count"].result, found["gpu_count"].measured) == ("fail", "0")
    assert found["gpu_ecc"].result == "unknown"
    assert not report.is_healthy


@pytest.mark.parametrize(("gpus", "visible"), [(0, None), (0, "0"), (None, "")])
def test_a_job_on_the_cores_is_not_held_to_gpus(nvml: NvmlScenes, gpus: int | None, visible: str | None) -> None:
    runner = FakeRunner().answer(own("nvml_reader"), nvml.read("lost"))
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    report = check_node(make_sources(runner, environment=environment), HealthRequest(node="n1", gpus=gpus))
    assert [name for name in names(report) if name.startswith("gpu_")] == []


def test_a_driver_that_hangs_fails_and_is_asked_nothing_more(nvml: NvmlScenes) -> None:
    runner = FakeRunner().answer(own("nvml_reader"), CommandTimedOut("hangs")).answer(("dmesg",), "[0.0] Linux\n")
    report = check_node(make_sources(runner), HealthRequest(node="n1", gpus=1, measure_speed=True))
    found = {check.name: check.result for check in report.checks}
    assert found["gpu_driver"] == "fail"
    assert found["gpu_xid"] == "ok"
    assert found["gpu_temperature"] == found["gpu_count"] == "unknown"
    asked = {call.argv[0] if call.argv[1:2] != ("-m",) else call.argv[2] for call in runner.calls}
    assert not asked & {"nvidia-smi", "dcgmi", "nexa_infra.health.gpu_speed"}


def test_an_unknown_check_keeps_a_node_out_unless_the_site_accepts_that(nvml: NvmlScenes) -> None:
    fine = json.dumps(
        {
            "size_bytes": 100, "free_bytes": 90, "used_bytes": 10, "inodes": 10, "free_inodes": 9,
            "is_read_only": False, "may_write": True,
        }
    )  # fmt: skip
    runner = FakeRunner().answer(own("nvml_reader"), nvml.read("no_ecc")).answer(own("path_probe"), fine)
    runner.answer(("dmesg",), "[0.0] Linux\n")
    strict = check_node(make_sources(runner), HealthRequest(node="n1"))
    assert [check.name for check in strict.problems] == ["gpu_ecc"]
    lenient = check_node(make_sources(runner), HealthRequest(node="n1", accept_unknown=("gpu_ecc",)))
    assert lenient.is_healthy
    assert lenient.result == "unknown"


def test_only_the_gpus_of_the_job_are_judged(nvml: NvmlScenes) -> None:
    runner = FakeRunner().answer(own("nvml_reader"), nvml.read("hot"))
    sources = make_sources(runner, environment={"CUDA_VISIBLE_DEVICES": "0"})
    found = {check.name: check.result for check in check_node(sources, HealthRequest(node="n1", gpus=1)).checks}
    assert found["gpu_temperature"] == "ok"


def test_nothing_checked_is_not_healthy() -> None:
    empty = make_report("n1").model_copy(update={"checks": ()})
    assert not empty.is_healthy
    assert empty.result == "unknown"


def test_another_node_is_asked_by_arguments_that_no_shell_reads() -> None:
    cluster = Cluster(make_sources(), SlurmSite(partition="gpu", account="a", python="/opt/py/bin/python"))
    argv = render_srun(cluster, HealthRequest(node="n1", gpus=8))
    assert argv[0] == "srun"
    assert {"--nodelist=n1", "--partition=gpu", "--account=a", "--gpus-per-node=8", "--immediate=60"} <= set(argv)
    assert argv[-4:-1] == ("/opt/py/bin/python", "-m", "nexa_infra.health.node_check")
    assert HealthRequest.model_validate_json(argv[-1]).node == "n1"
    inside = render_srun(Cluster(make_sources(), SlurmSite(), inside_job=True), HealthRequest(node="n1"))
    assert "--overlap" in inside
    with pytest.raises(ConfigError, match=r"slurm\.partition"):
        render_srun(Cluster(make_sources(), SlurmSite(partition="a b")), HealthRequest(node="n1"))
    with pytest.raises(ConfigError, match=r"slurm\.nodelist"):
        render_srun(cluster, HealthRequest(node="n1,n2"))


@pytest.mark.parametrize(("key", "value"), [("partition", "a@b"), ("partition", "p+1,p2"), ("constraint", "a=1&b")])
def test_what_a_job_may_ask_for_a_check_may_ask_for_too(key: str, value: str) -> None:
    site = SlurmSite.model_validate({key: value})
    assert f"--{key}={value}" in render_srun(Cluster(make_sources(), site), HealthRequest(node="n1"))
    assert f"--{key}={value}" in render_options(Resources(), site, job_name="a", output="a", export=())


@pytest.mark.parametrize("value", ["a:b", "_a", "a.*", "a b", "-x", ""])
def test_what_a_job_may_not_ask_for_no_check_asks_for(value: str) -> None:
    site = SlurmSite(account=value)
    with pytest.raises(ConfigError, match=r"slurm\.account"):
        render_srun(Cluster(make_sources(), site), HealthRequest(node="n1"))
    with pytest.raises(ConfigError, match=r"slurm\.account"):
        render_options(Resources(), site, job_name="a", output="a", export=())


def test_a_node_that_gives_no_report_is_unknown_with_the_reason() -> None:
    said = json.dumps(make_report("n1").model_dump(mode="json"))
    busy = Completed(1, "", "srun: error: Unable to allocate resources: Requested nodes are busy\n")

    def answer(call: object) -> Completed:
        argv = getattr(call, "argv", ())
        if "--nodelist=n1" in argv:
            return Completed(0, f"motd of a chatty site\n{said}\n")
        if "--nodelist=n2" in argv:
            raise CommandTimedOut("srun: still running")
        assert "--nodelist=n5" not in argv
        return busy if "--nodelist=n3" in argv else Completed(0, '{"node": 1}\n')

    states = "n1|idle|none\nn2|mixed|none\nn3|allocated|none\nn4|idle|none\nn5|down*|a | in the reason\nn5|down*|a\n"
    runner = FakeRunner().answer(("srun",), answer).answer(("sinfo",), states)
    reports = check_nodes(
        Cluster(make_sources(runner), SlurmSite()), ["n1", "n2", "n3", "n4", "n5"], HealthRequest(node="any")
    )
    assert [report.node for report in reports] == ["n1", "n2", "n3", "n4", "n5"]
    assert [report.is_healthy for report in reports] == [True, False, False, False, False]
    assert "no answer in 360 s" in reports[1].checks[0].evidence
    assert "in use: not free within 60 s" in reports[2].checks[0].evidence
    assert reports[4].checks[0].evidence.startswith("Slurm says that it is down: a")


def test_where_sinfo_does_not_answer_every_node_is_asked() -> None:
    said = json.dumps(make_report("n1").model_dump(mode="json"))
    runner = (
        FakeRunner().answer(("srun",), Completed(0, said)).answer(("sinfo",), Completed(1, "", "sinfo: error: down"))
    )
    (report,) = check_nodes(Cluster(make_sources(runner), SlurmSite()), ["n1"], HealthRequest(node="any"))
    assert report.is_healthy


def test_node_lists_are_names_and_only_slurm_knows_ranges() -> None:
    runner = FakeRunner().answer(("scontrol", "show", "hostnames", "n[1-3],m1"), "n1\nn2\nn3\nm1\n")
    sources = make_sources(runner)
    assert expand_nodes(sources, "n2,n1,n2") == ("n2", "n1")
    assert expand_nodes(sources, "n[1-3],m1") == ("n1", "n2", "n3", "m1")
    runner.answer(("scontrol", "show", "hostnames", "r[1,2]n[1-2]-ib"), "r1n1-ib\nr1n2-ib\n")
    assert expand_nodes(sources, "r[1,2]n[1-2]-ib") == ("r1n1-ib", "r1n2-ib")
    for wrong in ("", "n1;rm", "n1 n2", "$(id)", "--all", "n1,", ",n1", "n[1-3", "n1]", "n1,,n2", "n1\n"):
        with pytest.raises(ConfigError, match="--nodes: found"):
            expand_nodes(sources, wrong)


def test_what_runs_on_a_node_prints_one_report(tmp_path: Path) -> None:
    # With a tool on PATH that prints what cannot be read.
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho '[N/A]'\n")
    smi.chmod(smi.stat().st_mode | stat.S_IXUSR)
    request = HealthRequest(node="n1", gpus=1).model_dump_json()
    argv = [sys.executable, "-m", "nexa_infra.health.node_check", request]
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = SystemRunner().run(argv, timeout_s=120, cwd=ROOT, env=environment).require_success()
    report = HealthReport.from_json(done.stdout, source="node_check")
    found = {check.name: check for check in report.checks}
    assert report.node == "n1"
    assert not report.is_healthy
    assert found["gpu_driver"].result == "fail"
    assert "[N/A]" in found["gpu_driver"].evidence
