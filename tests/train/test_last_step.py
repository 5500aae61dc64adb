from __future__ import annotations

import json

from nexa_infra.scheduling.stalls import StepReader
from tests.train.training_site import Site


def test_a_training_that_fails_tells_the_very_step(site: Site, stack: None) -> None:
    job = site.job("training.max_steps=30", "checkpoints.every_steps=7", "training.log_every=30")
    job.checkpoints.mkdir(parents=True)
    (job.checkpoints / "checkpoint-7").write_text("a file where a folder is to be")
    assert site.train(job).status != 0
    beat = json.loads(job.run_dir.heartbeat.read_text())
    assert (beat["step"], beat["max_steps"], beat["attempt"]) == (7, 30, 1)
    assert StepReader(job.run_dir, 1, is_over=True).read().step == 7
