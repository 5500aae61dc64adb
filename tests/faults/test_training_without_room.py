"""A training whose scratch fills up, or that ends while durable takes nothing, loses no step that was saved."""

from __future__ import annotations

import re
from pathlib import Path

from tests.faults.namespace import drive


def test_a_full_scratch_ends_the_training_by_name_and_a_resumption_with_room_goes_on(tmp_path: Path) -> None:
    said = drive("training_driver", tmp_path, "scratch full")
    failure = said["outcome"]["failure"]
    assert (said["outcome"]["state"], failure["kind"]) == ("FAILED", "storage")
    wanted = (
        rf"scratch {re.escape(said['scratch'])}: saving checkpoint-(\d+) failed: no space left on device \(.* free\)"
    )
    found = re.fullmatch(wanted, failure["message"])
    assert found is not None, failure["message"]
    cut_off, newest = int(found[1]), max(int(name.removeprefix("checkpoint-")) for name in said["left"])
    assert newest < cut_off
    assert said["broken"] == []
    assert f"--resume {said['run_id']} then goes on from step {newest}" in failure["evidence"][0]
    assert said["resumed_from"] == f"{said['run_id']} step {newest}"
    assert (said["then"], said["model"]) == ("SUCCEEDED", True)


def test_what_a_read_only_durable_did_not_take_is_named_and_promoted_when_it_can_be(tmp_path: Path) -> None:
    said = drive("training_driver", tmp_path, "durable read-only")
    outcome, run_id = said["outcome"], said["run_id"]
    assert (outcome["state"], outcome["failure"]["kind"], outcome["steps"]) == ("FAILED", "storage", 1500)
    assert outcome["metrics"]["loss"] > 0
    assert f"not promoted: model {run_id}; its checkpoints of step " in outcome["failure"]["message"]
    assert "mounted read-only" in outcome["failure"]["message"]
    assert "nexa storage recover" in outcome["failure"]["evidence"][0]
    status, message = said["refused"]
    assert status == 1
    assert "mounted read-only" in message
    assert said["shown"] == said["promoted"]
    assert set(said["promoted"]) == {run_id, *(f"{run_id}_step_{step}" for step in (500, 1000, 1500))}
    assert all(said["whole"])
    assert said["copied"]
    assert said["again"] == []
