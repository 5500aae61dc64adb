"""Taking a process out of its group at the end of a training."""

from __future__ import annotations

import gc


def part() -> None:
    """Leave the process group; nothing that trains in it may be referred to any more.

    Its destructor waits for threads that may want the interpreter's lock, to drop the tensors of the last collective.
    The Python object of the group lets go of that lock before it destroys, the reducer of a model in data-parallel
    training does not: were it the last to hold the group, both would wait for each other for ever (torch 2.13, seen on
    busy machines). So the group is held here until the reducer is gone.

    Source: https://github.com/pytorch/pytorch/issues/56297, https://github.com/pytorch/pytorch/pull/154976
    """
    import torch.distributed as dist

    world = dist.group.WORLD
    dist.destroy_process_group()
    gc.collect()  # trainers and their callbacks refer to each other
    del world
