"""The launcher for data-parallel training: torchrun, one process per GPU."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from nexa_contracts.errors import ConfigError
from nexa_contracts.resources import Resources


class TorchrunLauncher:
    """Starts the command once per GPU of one node, with a rendezvous of its own."""

    name = "torchrun"

    def __init__(self, python: str = sys.executable) -> None:
        """Use the torch that is installed beside this interpreter."""
        self._python = python

    def wrap(self, command: Sequence[str], resources: Resources, *, run_id: str) -> tuple[str, ...]:
        """Return the command behind torchrun.

        The rendezvous lies on a free port that the kernel picks and carries the run's id, so two jobs on one machine
        never meet (`--standalone` does the same under a random id, which tells nobody whose it is). `--no-python`
        starts the command as it is, interpreter and all.

        Raises:
            ConfigError: more than one node is asked for.
        Source: https://docs.pytorch.org/docs/stable/elastic/run.html
        """
        if resources.nodes != 1:
            raise ConfigError(
                f"{run_id}: resources.nodes: found {resources.nodes}; allowed with the launcher torchrun: 1",
                hint="ask for more GPUs on one node",
            )
        return (
            self._python,
            "-m",
            "torch.distributed.run",
            "--nnodes=1",
            f"--nproc-per-node={resources.world_size}",
            "--rdzv-backend=c10d",
            "--rdzv-endpoint=localhost:0",
            f"--rdzv-id={run_id}",
            "--max-restarts=0",
            "--no-python",
            *command,
        )

    def environment(self, resources: Resources) -> dict[str, str]:
        """Return the share of the cores of each process; without it every process would use all of them."""
        return {"OMP_NUM_THREADS": str(max(1, resources.cpus // resources.world_size))}
