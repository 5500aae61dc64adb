"""The peer of training_overhead.py: the baseline's training as a script with nothing but the Trainer.

`python bare_trainer.py train.bin tokenizer.json`, both from the same cache that our training reads.
"""

from __future__ import annotations

import sys
import tempfile
from typing import Any

import numpy as np
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)


class Blocks(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Blocks of 128 tokens from a file."""

    def __init__(self, path: str) -> None:
        tokens = np.memmap(path, dtype="uint16", mode="r")
        self._blocks = tokens[: len(tokens) // 128 * 128].reshape(-1, 128)

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        tokens = torch.from_numpy(self._blocks[index].astype(np.int64))
        return {"input_ids": tokens, "labels": tokens}


class SayFirstStep(TrainerCallback):  # type: ignore[misc]
    """Says that the first step is done."""

    def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        if state.global_step == 1:
            sys.stderr.write(f"step 1/{state.max_steps}\n")
            sys.stderr.flush()


def main() -> None:
    torch.manual_seed(17)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=sys.argv[2], eos_token="<|endoftext|>", pad_token="<|pad|>")
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=1024, hidden_size=128, intermediate_size=344, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=4, max_position_embeddings=128, initializer_range=0.06, tie_word_embeddings=True,
        )
    )  # fmt: skip
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(), max_steps=400, per_device_train_batch_size=8, learning_rate=3e-3,
        lr_scheduler_type="cosine", warmup_steps=20, weight_decay=0.01, logging_steps=10, seed=17, use_cpu=True,
        save_strategy="no", report_to=[], disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    Trainer(
        model=model,
        args=arguments,
        train_dataset=Blocks(sys.argv[1]),
        processing_class=tokenizer,
        callbacks=[SayFirstStep()],
    ).train()


if __name__ == "__main__":
    main()
