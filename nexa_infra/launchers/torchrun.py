"""The launcher for data-parallel training: torchrun, one process per GPU, on one node or many."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from nexa_contracts.resources import Resources

NODE_ENTRY = "nexa_infra.scheduling.node_entry"
"""What runs on each node: it starts torchrun, once the node was checked and has met the others."""
STEP_ENTRY = "nexa_infra.scheduling.step_entry"
"""What starts a node entry on every node of a Slurm allocation."""
RANK = "nexa_infra.launchers.rank"
"""What runs around the program in each process."""
AGENT_IS_DEAF_TO = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Told to leave, torchrun's agent gives its processes 30 s, or as long as it would wait for those that hang after a
crash; and of SIGUSR1 it dies. So the processes are told directly, and the agent never."""
AGENT_HEARS = (signal.SIGQUIT, signal.SIGALRM)
"""With these it ends its processes and fails; the second is sent by a process whose crash would come each time."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where the nodes of one job meet, and which of them this one is."""

    node_rank: int
    address: str
    """Name of this node, as the others know it."""
    host: str
    """Name of the first node, where the others meet."""
    port: int


class TorchrunLauncher:
    """Starts the command once per process on each node, with a rendezvous of its own."""

    name = "torchrun"

    def __init__(self, python: str = sys.executable) -> None:
        """Use the torch that is installed beside this interpreter."""
        self._python = python

    def wrap(
        self, command: Sequence[str], resources: Resources, *, run_id: str, max_restarts: int = 0
    ) -> tuple[str, ...]:
        """Return the command behind the program that starts torchrun on a node; on several nodes, behind what starts
        that on each. What is known on the node only (its rank, the first host, the port) is found there.
        """
        node = (
            self._python,
            "-m",
            NODE_ENTRY,
            f"--nodes={resources.nodes}",
            f"--spares={resources.spares}",
            f"--processes={resources.processes}",
            f"--max-restarts={max_restarts}",
            f"--run-id={run_id}",
            "--",
            *command,
        )
        if resources.held_nodes == 1:
            return node
        step = (self._python, "-m", STEP_ENTRY, f"--nodes={resources.held_nodes}", f"--cpus={resources.cpus}", "--")
        return (*step, *node)

    def environment(self, resources: Resources) -> dict[str, str]:
        """Return the share of the cores of each process; without it every process would use all of them."""
        return {"OMP_NUM_THREADS": str(max(1, resources.cpus // resources.processes))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The training processes of one attempt."""

    nodes: int
    processes: int
    """On each node."""
    max_restarts: int
    rendezvous_id: str
    """Equal on all nodes of an attempt, and different for all others: two attempts never meet."""

    @property
    def environment(self) -> dict[str, str]:
        """What torchrun needs beside the job's variables.

        Left to itself it keeps one store for all restarts, in which processes that were started again find the
        addresses of those that died, and wait for them (torch 2.13, seen with gloo). With this each start has a store
        of its own.
        """
        return {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"} if self.max_restarts else {}


def render_torchrun(
    command: Sequence[str], group: Group, meeting: Meeting | None, *, python: str = sys.executable
) -> tuple[str, ...]:
    """Return the argument list of torchrun on one node.

    Alone (`meeting` None), the rendezvous lies on a free port that the kernel picks and carries the run's id
    (`--standalone` does the same under a random id, which tells nobody whose it is). With others it lies on the first
    node, and whether this is it is said and not guessed from host names, of which a node may have several. c10d and not
    static: after a restart all nodes must meet again, and those whose processes still live come too.
    `--no-python` starts the command as it is, interpreter and all.

    Source: https://docs.pytorch.org/docs/stable/elastic/run.html
    """
    if meeting is None:
        place = ["--rdzv-endpoint=localhost:0"]
    else:
        place = [
            f"--rdzv-endpoint={meeting.host}:{meeting.port}",
            f"--rdzv-conf=is_host={'true' if meeting.node_rank == 0 else 'false'}",
            f"--local-addr={meeting.address}",
        ]
    return (
        python,
        "-m",
        "torch.distributed.run",
        f"--nnodes={group.nodes}",
        f"--nproc-per-node={group.processes}",
        "--rdzv-backend=c10d",
        *place,
        f"--rdzv-id={group.rendezvous_id}",
        f"--max-restarts={group.max_restarts}",
        f"--signals-to-handle={','.join(number.name for number in AGENT_HEARS)}",
        "--no-python",
        python,
        "-m",
        RANK,
        *command,
    )
