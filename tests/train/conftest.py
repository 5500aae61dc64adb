"""The site that all tests of the session share, and the training stack, imported once."""

from __future__ import annotations

import itertools
import random
import warnings

import pytest

from nexa_contracts.clock import SystemClock
from nexa_infra.storage.layout import Tiers
from nexa_infra.storage.tiers import init_tiers
from tests.train.training_site import Site, register, sentence, write_jsonl


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Return a site that all tests of the session share; each uses runs of its own."""
    root = tmp_path_factory.mktemp("site")
    tiers = Tiers(root / "scratch", root / "durable", root / "shared")
    init_tiers(tiers, clock=SystemClock())
    words = random.Random(5)
    texts = [{"text": sentence(words, 120)} for _ in range(300)]
    talks = [
        {"messages": [{"role": "user", "content": sentence(words, 6)}, {"role": "assistant", "content": "the loss"}]}
        for _ in range(60)
    ]
    choices = [{"prompt": sentence(words, 5), "chosen": "is small", "rejected": "(y) + 1"} for _ in range(60)]
    for name, rows in (("words", texts), ("talks", talks), ("choices", choices)):
        register(tiers, name, write_jsonl(root / f"{name}.jsonl", rows))
    return Site(tiers, root, itertools.count(1))


@pytest.fixture(scope="session")
def stack() -> None:
    """Import the training stack once; what it warns of while it is imported is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import peft  # noqa: F401
        import torch
        import transformers  # noqa: F401
        from trl import DPOTrainer, SFTTrainer  # noqa: F401

        torch.set_num_threads(1)
