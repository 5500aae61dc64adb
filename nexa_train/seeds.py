"""The same config, seed and thread count on the same machine give the same numbers."""

from __future__ import annotations

import os
import random


def set_seeds(seed: int) -> None:
    """Seed every generator, and prefer operations that give the same bits at every call.

    An operation that has no such form warns and goes on: refusing would forbid models that need it.
    `full_determinism` of the Trainer is not used, because it also serialises every CUDA call.
    Source: https://docs.pytorch.org/docs/stable/notes/randomness.html
    """
    # cuBLAS reads it when it is first used, which is after this.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling every new tensor with NaN finds reads of uninitialised memory, at a price in each step.
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010 - torch does not declare it
    torch.backends.cudnn.benchmark = False
