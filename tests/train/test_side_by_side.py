"""Two processes that train one model, whole or its adapters, without a warning that each step repeats."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from nexa_contracts.exit_codes import WorkExit
from tests.train.test_finetuning import CHAT, LORA
from tests.train.training_site import Site

DEADLINE_S = 240
SAVING = "training.gradient_checkpointing=true"


@pytest.fixture(scope="module")
def base(site: Site) -> Path:
    """Return a trained model's folder."""
    ran = site.train(site.job("training.max_steps=3"))
    return site.tiers.checkpoint(ran.job.run_id)


@pytest.mark.parametrize(
    ("is_new", "overrides"),
    [
        (True, ("training.max_steps=4", SAVING)),
        (False, (*CHAT, *LORA, SAVING)),
    ],
    ids=["new", "adapters"],
)
def test_two_processes_train_without_looking_for_unused_weights(
    site: Site, base: Path, is_new: bool, overrides: tuple[str, ...]
) -> None:
    job = site.job(*overrides, *(() if is_new else ("model.scratch=null", f"model.path={base}")))
    child = site.start(
        job, sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "nexa_train.run"
    )
    _, said = child.communicate(timeout=DEADLINE_S)
    result = json.loads(job.run_dir.result(1).read_text())
    assert result["exit_code"] == WorkExit.DONE, said
    assert "find_unused_parameters" not in said
