from __future__ import annotations

from pathlib import Path

import pytest

from nexa_contracts.errors import StorageError
from nexa_infra.health.checks.machine import judge_cores, judge_load, judge_memory
from nexa_infra.health.facts import digest_environment, digest_folder
from nexa_infra.health.naming import own_name
from nexa_infra.health.run import describe_owner
from tests.health.health_made import make_sources


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "stat").write_text("cpu  1 2 3\ncpu0 1 2 3\ncpu1 1 2 3\nintr 5\n")
    (tmp_path / "meminfo").write_text("MemTotal:       65536000 kB\nMemFree: 1 kB\n")
    (tmp_path / "loadavg").write_text("4.50 1.00 0.50 1/200 4242\n")
    return tmp_path


def test_a_machine_is_held_to_what_was_stated_of_it(proc: Path) -> None:
    sources = make_sources(proc=proc)
    assert [judge_cores(sources, stated=stated).result for stated in (None, 2, 3)] == ["ok", "ok", "fail"]
    stated = 65536000 * 1024
    wanted = (None, stated, int(stated / 0.96), int(stated / 0.94))
    assert [judge_memory(sources, stated_bytes=size).result for size in wanted] == ["ok", "ok", "ok", "fail"]


def test_a_busy_machine_is_told_and_may_still_join(proc: Path) -> None:
    assert judge_load(make_sources(proc=proc)).result == "warn"
    (proc / "loadavg").write_text("3.99 1 1 1/2 3\n")
    assert judge_load(make_sources(proc=proc)).result == "ok"


def test_what_the_kernel_does_not_show_is_unknown(tmp_path: Path) -> None:
    sources = make_sources(proc=tmp_path)
    checks = [judge_cores(sources, stated=None), judge_memory(sources, stated_bytes=None), judge_load(sources)]
    assert {check.result for check in checks} == {"unknown"}


def test_a_process_is_told_with_its_owner(tmp_path: Path) -> None:
    (tmp_path / "42").mkdir()
    (tmp_path / "42" / "status").write_text("Name:\tpython3\nUid:\t0\t0\t0\t0\n")
    sources = make_sources(proc=tmp_path)
    assert describe_owner(sources, 42) == " of root (python3)"
    assert describe_owner(sources, 43) == ""


def test_a_node_is_called_as_the_cluster_calls_it() -> None:
    assert own_name({"SLURMD_NODENAME": "n7"}, "host.example") == "n7"
    assert own_name({}, "host.example") == "host"


def test_the_same_environment_and_code_give_the_same_digests(tmp_path: Path) -> None:
    assert digest_environment() == digest_environment()
    for name in ("one", "two"):
        (tmp_path / name / "pkg").mkdir(parents=True)
        (tmp_path / name / "pkg" / "a.py").write_text("x = 1\n")
        (tmp_path / name / "link").symlink_to("pkg/a.py")
    assert digest_folder(tmp_path / "one") == digest_folder(tmp_path / "two")
    (tmp_path / "two" / "pkg" / "__pycache__").mkdir()
    (tmp_path / "two" / "pkg" / "__pycache__" / "a.pyc").write_text("cache")
    assert digest_folder(tmp_path / "one") == digest_folder(tmp_path / "two")
    (tmp_path / "two" / "pkg" / "a.py").write_text("x = 2\n")
    assert digest_folder(tmp_path / "one") != digest_folder(tmp_path / "two")
    with pytest.raises(StorageError, match="no such file"):
        digest_folder(tmp_path / "three")
