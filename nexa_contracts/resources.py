"""What a run needs: nodes, GPUs, cores, memory, time."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from nexa_contracts.base import Duration, Part, Size
from nexa_contracts.units import parse_duration_s, parse_size_bytes


class Resources(Part):
    """What one run asks of a backend. Cores, memory and GPUs are per node."""

    nodes: int = Field(default=1, ge=1, le=100_000)
    """Machines."""
    spares: int = Field(default=0, ge=0, le=1000)
    """Machines beside them, which take the place of those that are refused before the start; held, and paid for."""
    gpus_per_node: int = Field(default=0, ge=0, le=64)
    """GPUs on each machine; 0 trains on its cores."""
    gpu_type: str | None = Field(default=None, max_length=64)
    """Name in the price table (`H100-SXM`, `RTX 4090`); None takes whatever is there, and its price is unknown."""
    processes_per_node: int | None = Field(default=None, ge=1, le=4096)
    """Training processes on each machine; None: one for each GPU, or a single one without GPUs."""
    share_gpus: bool = False
    """Let other runs use the same GPUs at the same time."""
    cpus: int = Field(default=1, ge=1, le=4096)
    """Cores on each machine."""
    memory: Size = "2GiB"
    """Main memory on each machine."""
    walltime: Duration = "1h"
    """The longest one attempt may take; it is ended after that."""

    @model_validator(mode="after")
    def _one_process_a_gpu(self) -> Self:
        if self.gpus_per_node and self.processes > self.gpus_per_node:
            raise ValueError(
                f"processes_per_node {self.processes} is more than gpus_per_node {self.gpus_per_node}: "
                "two training processes cannot share a GPU"
            )
        return self

    @property
    def processes(self) -> int:
        """Number of training processes on each node."""
        return self.processes_per_node or max(1, self.gpus_per_node)

    @property
    def held_nodes(self) -> int:
        """Number of machines that the job holds, spares included."""
        return self.nodes + self.spares

    @property
    def world_size(self) -> int:
        """Number of training processes on all nodes together."""
        return self.nodes * self.processes

    @property
    def walltime_s(self) -> float:
        """The walltime in seconds."""
        return parse_duration_s(self.walltime)

    @property
    def memory_bytes(self) -> int:
        """The memory per node in bytes."""
        return parse_size_bytes(self.memory)

    @property
    def gpu_hours(self) -> float:
        """GPU-hours if the run takes its whole walltime."""
        return self.held_nodes * self.gpus_per_node * self.walltime_s / 3600
