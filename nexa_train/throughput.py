"""Tokens a second, and how much of the hardware's arithmetic they use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

PEAK_TFLOPS_BF16 = {
    "B200": 2250.0,
    "GH200": 989.4,
    "H200": 989.4,
    "H100 NVL": 835.0,
    "H100 PCIE": 756.0,
    "H100": 989.4,
    "A100": 312.0,
    "A800": 312.0,
    "A40": 149.7,
    "A30": 165.0,
    "A10": 125.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "RTX 6000 ADA": 364.2,
    "RTX A6000": 154.8,
    "RTX 5090": 209.5,
    "RTX 4090": 165.2,
    "RTX 3090": 71.0,
    "MI300X": 1307.4,
}
"""Dense bf16 peak of one GPU by a part of its name, without sparsity; of several that fit, the longest counts.

Source: NVIDIA data sheets (B200 and GB200 NVL, H200, H100, A100, A40, A30, A10, L40S, L40, L4, RTX A6000, RTX 6000
Ada), the GA102, AD102 and Blackwell RTX white papers (GeForce, fp32 accumulate), AMD's MI300X data sheet. Where a
sheet names the figure with sparsity only, half of it.
The H100 to L4, GeForce and MI300X rows agree with the table of karpathy/nanochat, itself after pytorch/torchtitan.
"""


@dataclass(frozen=True, slots=True)
class ModelCost:
    """Arithmetic of training on one token."""

    flops_per_token: float
    parameters: int
    trained_parameters: int


def find_peak_tflops(gpu_name: str) -> float | None:
    """Return a GPU's dense bf16 peak in TFLOP/s; None when it is not in the table."""
    name = gpu_name.upper()
    # Whole words: an A10G is no A10, and an A1000 no A100.
    fitting = [part for part in PEAK_TFLOPS_BF16 if re.search(rf"\b{re.escape(part)}\b", name)]
    return PEAK_TFLOPS_BF16[max(fitting, key=len)] if fitting else None


def measure_model(model: Any, *, block_size: int) -> ModelCost:
    """Return what one token costs: 6 operations a trained weight, 4 a frozen one, and attention over the block.

    An embedding is a lookup and costs nothing, unless it is also the output layer.
    Source: https://arxiv.org/abs/2204.02311, appendix B (6N + 12 L H Q T).
    """
    parameters = trained = matmul_trained = matmul_frozen = 0
    lookup = None if model.config.tie_word_embeddings else model.get_input_embeddings().weight
    for parameter in model.parameters():
        parameters += parameter.numel()
        trained += parameter.numel() if parameter.requires_grad else 0
        if parameter is lookup or parameter.dim() < 2:
            continue
        if parameter.requires_grad:
            matmul_trained += parameter.numel()
        else:
            matmul_frozen += parameter.numel()
    layers, width = model.config.num_hidden_layers, model.config.hidden_size
    attention = 12.0 * layers * width * block_size
    return ModelCost(6.0 * matmul_trained + 4.0 * matmul_frozen + attention, parameters, trained)


def estimate_mfu(tokens_per_s: float, cost: ModelCost, *, peak_tflops: float | None, gpus: int) -> float | None:
    """Return the share of the GPUs' peak that the model's own arithmetic uses; None when the peak is unknown."""
    if peak_tflops is None:
        return None
    return tokens_per_s * cost.flops_per_token / (peak_tflops * 1e12 * gpus)


def find_device_peak() -> float | None:
    """Return the peak of this process's GPU in TFLOP/s; None on a CPU and for a GPU not in the table."""
    import torch

    return find_peak_tflops(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
