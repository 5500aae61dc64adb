"""Fine-tuning: on conversations and preferences, with all weights or adapters, from a model in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexa_contracts.exit_codes import WorkExit
from nexa_infra.storage.seal import verify_seal
from tests.train.training_site import LeaveAfter, Site

pytestmark = [
    pytest.mark.usefixtures("stack"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]
CHAT = ("data.dataset=talks", "data.format=chat", "data.block_size=64", "training.max_steps=12")
PREFERENCE = ("data.dataset=choices", "data.format=preference", "training.max_steps=4", "training.batch_size=2")
LORA = ("lora.rank=4", "lora.alpha=8")


@pytest.fixture(scope="module")
def base(site: Site) -> Path:
    """Return a trained model's folder."""
    ran = site.train(site.job("training.max_steps=3"))
    return site.tiers.checkpoint(ran.job.run_id)


def test_adapters_are_trained_on_conversations_and_their_training_goes_on(site: Site, base: Path) -> None:
    from_base = ("model.scratch=null", f"model.path={base}")
    whole = site.train(site.job(*CHAT, *LORA, *from_base))
    assert whole.status == WorkExit.DONE
    names = {file.path for file in verify_seal(site.tiers.checkpoint(whole.job.run_id)).files}
    assert "adapter_model.safetensors" in names
    assert "model.safetensors" not in names
    assert whole.curve[-1][1] < whole.curve[0][1]
    assert whole.result.tokens
    job = site.job(*CHAT, *LORA, *from_base)
    site.train(job, leave=LeaveAfter(7))
    resumed = site.train(job, attempt=2)
    assert resumed.result.metrics["eval_loss"] == whole.result.metrics["eval_loss"]


def test_a_new_model_is_trained_on_conversations(site: Site) -> None:
    ran = site.train(site.job(*CHAT))
    assert ran.status == WorkExit.DONE
    assert ran.curve[-1][1] < ran.curve[0][1]
    assert {"eval_loss", "eval_perplexity"} <= ran.result.metrics.keys()
    assert "eval_bits_per_byte" not in ran.result.metrics


@pytest.mark.parametrize("adapters", [(), LORA], ids=["all weights", "adapters"])
def test_preferences_are_learnt(site: Site, base: Path, adapters: tuple[str, ...]) -> None:
    ran = site.train(site.job(*PREFERENCE, *adapters, "model.scratch=null", f"model.path={base}"))
    assert ran.status == WorkExit.DONE
    assert ran.curve[0][1] == pytest.approx(0.693, abs=0.05)  # ln 2: at first the model is its own reference
    assert "eval_rewards/accuracies" in ran.result.metrics
    assert "eval_perplexity" not in ran.result.metrics


def test_a_model_from_a_folder_goes_on_with_its_own_tokenizer(site: Site, base: Path) -> None:
    ran = site.train(site.job("model.scratch=null", f"model.path={base}", "training.max_steps=5"))
    assert ran.status == WorkExit.DONE
    assert (site.tiers.checkpoint(ran.job.run_id) / "tokenizer.json").read_bytes() == (
        base / "tokenizer.json"
    ).read_bytes()


def test_adapters_that_fit_no_module_name_those_there_are(site: Site, base: Path) -> None:
    ran = site.train(site.job(*CHAT, "lora.target_modules=[wqkv]", "model.scratch=null", f"model.path={base}"))
    assert ran.status == WorkExit.BAD_REQUEST
    assert ran.result.failure is not None
    assert "q_proj" in ran.result.failure.message
