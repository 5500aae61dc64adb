"""The end of a training in several processes, whatever the threads of their process group are doing just then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

END_S = 120.0
"""Far more than it takes; only a process that hangs needs it."""
CODE = """
import sys, time
import torch
import torch._dynamo  # what is imported later keeps the group as a default of its functions
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from nexa_train.parting import part

rank, place = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", store=dist.FileStore(place, 2), rank=rank, world_size=2)

def train():
    model = DistributedDataParallel(torch.nn.Linear(2, 2))
    # The first process goes on while its group's thread still waits for the second one, and then has tensors to drop.
    time.sleep(2.0 * rank)
    dist.all_gather([torch.zeros(1), torch.zeros(1)], torch.ones(1), async_op=rank == 0)
    return model is not None

print(train())
part()
print("parted")
"""


def test_processes_end_although_a_thread_of_their_group_still_holds_tensors(tmp_path: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, str(rank), str(tmp_path / "store")], stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    try:
        said = [child.communicate(timeout=END_S)[0].split() for child in children]
    finally:
        for child in children:
            child.kill()
    assert said == [["True", "parted"]] * 2
