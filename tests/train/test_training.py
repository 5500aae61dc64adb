"""What a training leaves: metrics, a promoted model, the same curve for the same seed, and a curve that goes on."""

from __future__ import annotations

import json
import logging

import pytest

from nexa_contracts.config import load_config
from nexa_contracts.exit_codes import WorkExit
from nexa_contracts.run import RunConfig
from nexa_infra.storage.seal import verify_seal
from tests.train.training_site import LeaveAfter, Site

pytestmark = pytest.mark.usefixtures("stack")


def test_a_training_promotes_a_model_that_loads_and_says_what_it_reached(site: Site) -> None:
    ran = site.train(site.job())
    assert ran.status == WorkExit.DONE
    (artifact,) = ran.result.artifacts
    folder = site.tiers.checkpoint(ran.job.run_id)
    seal = verify_seal(folder)
    assert (artifact.path, artifact.kind) == (f"checkpoints/{ran.job.run_id}", "model")
    names = {file.path for file in seal.files}
    assert {"model.safetensors", "config.json", "tokenizer.json", "config.yaml", "logs.json"} <= names
    assert load_config(folder / "config.yaml", RunConfig) == ran.job.config
    assert json.loads((folder / "logs.json").read_text())["metrics"] == ran.result.metrics
    assert ran.result.steps == 30
    assert ran.result.tokens == 30 * 8 * 64
    assert {"loss", "eval_loss", "eval_perplexity", "eval_bits_per_byte", "tokens_per_s"} <= ran.result.metrics.keys()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(folder)("the loss is small", return_tensors="pt")
    assert AutoModelForCausalLM.from_pretrained(folder)(**tokens).logits.shape[-1] == 512


def test_metrics_hold_one_object_a_line_with_time_step_tokens_and_rates(site: Site) -> None:
    ran = site.train(site.job("training.eval_every=15"))
    losses = [line for line in ran.metrics if "loss" in line]
    evaluations = [line for line in ran.metrics if "eval_loss" in line]
    assert [line["step"] for line in losses] == [1, 5, 10, 15, 20, 25, 30]
    assert [line["step"] for line in evaluations] == [15, 30]
    assert losses[-1]["loss"] < losses[0]["loss"]
    for line in losses:
        assert line.keys() >= {"time", "attempt", "step", "epoch", "tokens", "loss", "learning_rate", "tokens_per_s"}
        assert line["tokens"] == line["step"] * 8 * 64
        assert line["mfu"] is None  # the peak of a CPU is not known
    heartbeat = json.loads(ran.job.run_dir.heartbeat.read_text())
    assert heartbeat.keys() == {"time", "monotonic_s", "pid", "step", "max_steps", "attempt", "batches"}


def test_the_same_config_and_seed_give_the_same_curve_to_the_bit(site: Site) -> None:
    overrides = ("model.scratch.dropout=0.1", "training.max_steps=10")
    one, other = (site.train(site.job(*overrides)) for _ in range(2))
    assert one.curve == other.curve
    assert one.result.metrics["eval_loss"] == other.result.metrics["eval_loss"]
    assert site.train(site.job(*overrides, "training.seed=18")).curve != one.curve


@pytest.mark.parametrize("leave_after", [10, 13])
def test_a_training_that_left_goes_on_as_if_it_had_not(site: Site, leave_after: int) -> None:
    # Dropout makes the state of the random generators part of the result; two epochs make the order of data so.
    overrides = ("model.scratch.dropout=0.1", "data.block_size=128", "training.max_steps=40")
    whole = site.train(site.job(*overrides))
    job = site.job(*overrides)
    left = site.train(job, leave=LeaveAfter(leave_after))
    assert left.status == WorkExit.SAVED_AND_LEFT
    assert left.result.exit_code == WorkExit.SAVED_AND_LEFT
    resumed = site.train(job, attempt=2)
    assert resumed.status == WorkExit.DONE
    assert resumed.result.resumed_from == f"{job.run_id} step {leave_after}"
    assert dict(whole.curve[-5:]) == dict(resumed.curve[-5:])
    assert whole.result.metrics["eval_loss"] == resumed.result.metrics["eval_loss"]
    assert {line["attempt"] for line in resumed.metrics} == {1, 2}
    assert resumed.metrics[: len(left.metrics)] == left.metrics


def test_weights_that_are_saved_once_for_two_places_are_not_called_missing(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    first = site.train(site.job("training.max_steps=10"))
    loud = logging.getLogger("transformers.trainer")
    loud.addHandler(caplog.handler)
    try:
        again = site.train(site.job("training.max_steps=20", resume_from=first.job.run_id))
    finally:
        loud.removeHandler(caplog.handler)
    assert again.result.resumed_from == f"{first.job.run_id} step 10"
    assert "missing keys" not in caplog.text


def test_a_new_run_goes_on_from_the_checkpoint_of_another(site: Site) -> None:
    first = site.train(site.job("training.max_steps=10", "training.lr_scheduler=constant"))
    second = site.train(
        site.job("training.max_steps=20", "training.lr_scheduler=constant", resume_from=first.job.run_id)
    )
    whole = site.train(site.job("training.max_steps=20", "training.lr_scheduler=constant"))
    assert second.result.resumed_from == f"{first.job.run_id} step 10"
    assert second.result.metrics["eval_loss"] == whole.result.metrics["eval_loss"]


def test_a_run_that_was_killed_after_its_last_step_is_only_evaluated_and_promoted(site: Site) -> None:
    job = site.job("training.max_steps=10")
    first = site.train(job)
    again = site.train(site.job("training.max_steps=10", resume_from=job.run_id))
    assert again.curve == []
    assert again.result.steps == 10
    assert again.result.metrics["eval_loss"] == first.result.metrics["eval_loss"]


def test_an_attempt_after_the_promotion_finds_the_work_done(site: Site) -> None:
    job = site.job("training.max_steps=5")
    first = site.train(job)
    second = site.train(job, attempt=2)
    assert second.status == WorkExit.DONE
    assert second.result.artifacts == first.result.artifacts
    assert second.result.metrics == first.result.metrics


def test_epochs_count_passes_over_the_data(site: Site) -> None:
    ran = site.train(site.job("training.max_steps=null", "training.epochs=2", "data.max_rows=40"))
    assert ran.metrics[-1]["epoch"] == 2.0
    assert ran.result.steps is not None
    assert ran.result.steps > 2


def test_two_trials_share_one_cache(site: Site) -> None:
    site.train(site.job("training.max_steps=2"))
    before = sorted(path.name for path in site.tiers.dataloader_cache.iterdir())
    site.train(site.job("training.max_steps=2", "training.learning_rate=0.1", "data.block_size=32"))
    assert sorted(path.name for path in site.tiers.dataloader_cache.iterdir()) == before
