from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa_infra.storage.layout import Project
from tests.cli.cli_process import Cli


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    (tmp_path / "nexa.yaml").write_text("project: tests\n", encoding="utf-8")
    return Cli(Project(tmp_path))


def test_this_machine_is_checked_and_every_check_shows_threshold_and_evidence(cli: Cli) -> None:
    done = cli("health", "--gpus", "0", "--json")
    found = json.loads(done.stdout)
    (node,) = found["nodes"]
    assert done.returncode == (0 if found["healthy"] else 1)
    assert {"memory", "cores", "load", "clock"} <= {check["name"] for check in node["checks"]}
    assert all(check["threshold"] and check["evidence"] for check in node["checks"])
    text = cli("health", "--gpus", "0").stdout
    assert "healthy is" in text
    assert "may join" in text or "may not join" in text


def test_a_machine_that_lacks_what_was_asked_for_may_not_join(cli: Cli) -> None:
    done = cli("health", "--gpus", "0", "--memory", "900TiB")
    assert done.returncode == 1
    assert "may not join: memory fail" in done.stdout


def test_other_nodes_without_slurm_are_named_with_what_to_do(cli: Cli) -> None:
    done = cli("health", "--nodes", "n1,n2", env={"PATH": "/nonexistent"})
    assert done.returncode == 4
    assert "n1, n2: other nodes are checked through Slurm, and there is no srun here" in done.stderr
    assert "run `nexa health` on the node itself" in done.stderr


def test_a_quarantine_is_shown_until_it_is_cleared(cli: Cli) -> None:
    assert cli.ok("health", "quarantine", "list") == "no node is under quarantine\n"
    cli.ok("health", "quarantine", "add", "n7", "--reason", "fan is loud", "--for", "2d")
    (entry,) = cli.json("health", "quarantine", "list")
    assert (entry["node"], entry["reason"]) == ("n7", "fan is loud")
    assert "fan is loud" in cli.ok("health", "quarantine", "list")
    assert "no longer under quarantine" in cli.ok("health", "quarantine", "clear", "n7")
    assert cli.json("health", "quarantine", "list") == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--memory", "much"), "--memory: found 'much'"),
        (("--nodes", "n1;reboot"), "--nodes: found 'n1;reboot'"),
        (("quarantine", "add", "a b", "--reason", "x"), "node: found 'a b'"),
        (("quarantine", "add", "n1", "--reason", "x", "--for", "soon"), "--for: found 'soon'"),
    ],
)
def test_wrong_words_are_answered_with_what_is_allowed(cli: Cli, words: tuple[str, ...], said: str) -> None:
    done = cli("health", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "allowed:" in done.stderr


def test_a_site_says_which_unknown_it_accepts_and_what_must_be_mounted(cli: Cli) -> None:
    cli.write("nexa.yaml", "health: {mounts: [/surely/not/mounted], accept_unknown: [gpu_ecc]}\n")
    done = cli("health", "--gpus", "0", "--json")
    (node,) = json.loads(done.stdout)["nodes"]
    assert done.returncode == 1
    assert node["accepted"] == ["gpu_ecc"]
    mounted = next(check for check in node["checks"] if check["name"] == "disk /surely/not/mounted")
    assert (mounted["result"], mounted["evidence"]) == ("fail", "nothing is mounted there")
