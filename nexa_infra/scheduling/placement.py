"""Which node of a job this is, and where its nodes meet: known on the node only, from what Slurm says there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nexa_contracts import env
from nexa_contracts.errors import ConfigError
from nexa_infra.launchers.torchrun import Meeting
from nexa_infra.process import CommandRunner

_FIRST_PORT = 10_240
_PORTS_A_JOB = 8
_JOBS = 2_816
"""With 8 ports each they end at 32,767: from the next one on Linux gives ports to clients."""
_ANSWER_S = 60.0


@dataclass(frozen=True, slots=True)
class Place:
    """This node among those of its step."""

    hosts: tuple[str, ...]
    """All of them, spares included, as they know each other."""
    index: int
    """Ours."""
    port: int
    """Where the first of those that train is met."""

    @property
    def own(self) -> str:
        """Our name."""
        return self.hosts[self.index]

    def among(self, joined: Sequence[str]) -> Meeting:
        """Return where this node meets the others that train; it is one of them."""
        return Meeting(node_rank=joined.index(self.own), address=self.own, host=joined[0], port=self.port)


def find_place(environment: Mapping[str, str], *, nodes: int, runner: CommandRunner) -> Place:
    """Return which of the nodes of its step this is.

    Raises:
        ConfigError: this is no step of so many nodes.
        CommandMissing, CommandFailed, CommandTimedOut: Slurm does not take its own list of nodes apart.
    Source: https://slurm.schedmd.com/srun.html (output environment variables; SLURM_NODEID counts within the step).
    """
    # The step's list goes first: a step may leave out nodes of its job.
    hosts = _expand(_required(environment, "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"), runner)
    index = _whole(environment, "SLURM_NODEID")
    if len(hosts) != nodes or index >= nodes:
        raise ConfigError(
            f"environment: found node {index} of {len(hosts)} ({', '.join(hosts)}); allowed: one of {nodes} nodes",
            hint=f"srun --nodes={nodes} --ntasks-per-node=1",
        )
    port = choose_port(_whole(environment, "SLURM_JOB_ID"), int(environment.get(env.ATTEMPT) or 1))
    return Place(tuple(hosts), index, port)


def choose_port(job_id: int, attempt: int) -> int:
    """Return the port of an attempt: jobs that follow one another do not share any, nor do attempts in a row.

    An attempt that was killed may hold its port for a while, and two jobs may run on one node.
    """
    return _FIRST_PORT + (job_id % _JOBS) * _PORTS_A_JOB + attempt % _PORTS_A_JOB


def _expand(node_list: str, runner: CommandRunner) -> list[str]:
    # The names need no controller: scontrol takes the text apart by itself.
    completed = runner.run(("scontrol", "show", "hostnames", node_list), timeout_s=_ANSWER_S)
    return completed.require_success().stdout.split()


def _required(environment: Mapping[str, str], *names: str) -> str:
    found = next((environment[name] for name in names if environment.get(name)), None)
    if found is None:
        raise ConfigError(
            f"environment: {names[0]} is not set; nodes find each other by what Slurm says",
            hint="start it with `nexa launch FILE --backend slurm`, or by hand with scripts/launch_ddp.sh",
        )
    return found


def _whole(environment: Mapping[str, str], name: str) -> int:
    text = _required(environment, name)
    if not text.isdecimal():
        raise ConfigError(f"environment: {name}: found {text!r}; allowed: a whole number")
    return int(text)
