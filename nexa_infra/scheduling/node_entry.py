"""What runs on each node of a distributed job: `python -m nexa_infra.scheduling.node_entry OPTIONS -- COMMAND...`.

It lets the node be checked and meet the others, starts torchrun, and stands between its processes and whoever speaks to
the node: the job entry on one node, the step entry on several.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nexa_contracts import env
from nexa_contracts.clock import Clock, SystemClock
from nexa_contracts.errors import ConfigError, NexaError
from nexa_contracts.exit_codes import CommandExit, WorkExit
from nexa_infra.health.naming import own_name
from nexa_infra.launchers.torchrun import AGENT_IS_DEAF_TO, Group, Meeting, render_torchrun
from nexa_infra.process import Child, SystemRunner
from nexa_infra.scheduling.hearing import WATCHED, Hearing
from nexa_infra.scheduling.joining import Attempted, Joined, Joining, read_plan
from nexa_infra.scheduling.placement import Place, find_place
from nexa_infra.scheduling.process_tree import ignores_signal, list_children, signal_group
from nexa_infra.scheduling.signals import SignalQueue

STEP_TOKEN = "NEXA_STEP_TOKEN"  # noqa: S105 - the name of a variable
"""The job's token on its way through srun. The entry itself must not carry it: Slurm's own process is in its session,
and would be taken for a part of the job."""
_OURS = (STEP_TOKEN, env.HEALTH)
"""Variables that the program does not get."""
_LOOK_AGAIN_S = 0.2
_FAREWELL_S = 10.0
"""srun kills the other nodes as soon as one fails. Their processes see the connection break by themselves, and the
first one may be about to write down why."""
_SHELL_SIGNALS = 128


def main(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the processes of this node and return torchrun's status: 0 too when they were told to leave and did.

    A node of several that was refused or is not needed returns 0: what comes of it is for the step entry to say.
    """
    with SignalQueue(WATCHED) as signals:
        try:
            options = _parse(argv)
            place = None
            if options.held > 1:
                place = find_place(environment, nodes=options.held, runner=SystemRunner())
            hearing = Hearing(signals, is_alone=place is None)
            told = _tell(environment)
            joined = _join(options, place, hearing, environment, told)
            if joined.state != "go":
                return _stay_out(joined, environment, is_alone=place is None)
            meeting = None if place is None else place.among(joined.nodes)
            return _Node(options, meeting, hearing, SystemClock()).run(told)
        except NexaError as error:
            sys.stderr.write(f"node entry: {error}\n")
            return error.exit_code


def _tell(environment: Mapping[str, str]) -> dict[str, str]:
    told = {name: text for name, text in environment.items() if name not in _OURS}
    if environment.get(STEP_TOKEN):
        told[env.JOB_TOKEN] = environment[STEP_TOKEN]
    return told


def _join(
    options: _Options, place: Place | None, hearing: Hearing, environment: Mapping[str, str], told: Mapping[str, str]
) -> Joined:
    nodes = (own_name(environment, socket.gethostname()),) if place is None else place.hosts
    plan = read_plan(environment)
    if plan is None:
        if options.spares:
            raise ConfigError(f"--spares: found {options.spares}; allowed without a check of the nodes: 0")
        return Joined("go", nodes)
    node = nodes[0] if place is None else place.own
    joining = Joining(plan, Attempted.from_environment(environment), options.run_id, node, nodes, options.nodes)
    joined = joining.run(hearing, environment=told, clock=SystemClock())
    if joined.words and (joined.state != "go" or joined.nodes[0] == node):
        sys.stderr.write(f"{joined.words}\n")  # of those that train the first speaks for all
    return joined


def _stay_out(joined: Joined, environment: Mapping[str, str], *, is_alone: bool) -> int:
    if not is_alone:
        return CommandExit.DONE
    if joined.state == "told":
        return WorkExit.SAVED_AND_LEFT  # there is nothing to save yet
    if joined.state == "stop":
        Attempted.from_environment(environment).record_refusal(joined.words, joined.evidence)
    return CommandExit.FAILED


@dataclass(slots=True)
class _Node:
    options: _Options
    meeting: Meeting | None
    hearing: Hearing
    clock: Clock
    _is_leaving: bool = False
    _told: set[int] = field(default_factory=set)
    """Processes that know they have to leave."""

    def run(self, environment: Mapping[str, str]) -> int:
        """Run torchrun to its end and return a status."""
        group = Group(
            nodes=self.options.nodes,
            processes=self.options.processes,
            max_restarts=self.options.max_restarts,
            rendezvous_id=f"{self.options.run_id}-{environment.get(env.ATTEMPT) or 1}",
        )
        argv = render_torchrun(self.options.command, group, self.meeting)
        told = {**environment, **group.environment}
        child = SystemRunner().start(argv, output="ours", env=told, end_with_us=True, deaf_to=AGENT_IS_DEAF_TO)
        while (returncode := child.poll()) is None:
            for number in self.hearing.listen(_LOOK_AGAIN_S if self._is_leaving else None):
                self._pass_on(number, child)
            if self._is_leaving:
                self._ask_to_leave(child)
        if returncode != 0 and self.meeting is not None:
            self._say_farewell()
        return returncode if returncode >= 0 else _SHELL_SIGNALS - returncode

    def _pass_on(self, number: signal.Signals, child: Child) -> None:
        if number == signal.SIGTERM:
            self._is_leaving = True
            return
        for pid in list_children(child.pid):
            signal_group(pid, number)

    def _ask_to_leave(self, child: Child) -> None:
        # Again and again, because processes may just be started again; one that still ignores the signal, as the agent
        # does, has not come so far as to hear it.
        for pid in list_children(child.pid):
            if pid not in self._told and not ignores_signal(pid, signal.SIGTERM):
                signal_group(pid, signal.SIGTERM)
                self._told.add(pid)

    def _say_farewell(self) -> None:
        deadline_s = self.clock.monotonic_s() + _FAREWELL_S
        while (left_s := deadline_s - self.clock.monotonic_s()) > 0:
            if signal.SIGTERM in self.hearing.listen(left_s):
                return


@dataclass(frozen=True, slots=True)
class _Options:
    nodes: int
    """That train."""
    spares: int
    processes: int
    max_restarts: int
    run_id: str
    command: tuple[str, ...]

    @property
    def held(self) -> int:
        """Nodes of the step."""
        return self.nodes + self.spares


def _parse(argv: Sequence[str]) -> _Options:
    # By hand: only our own launcher calls this, and every job waits for it.
    place = argv.index("--") if "--" in argv else len(argv)
    values = dict(word.removeprefix("--").split("=", 1) for word in argv[:place] if "=" in word)
    command = tuple(argv[place + 1 :])
    values.setdefault("spares", "0")
    numbers = [values.pop(name, "") for name in ("nodes", "spares", "processes", "max-restarts")]
    run_id = values.pop("run-id", "")
    if values or not (command and run_id and all(text.isdecimal() for text in numbers)):
        allowed = "--nodes=N [--spares=S] --processes=P --max-restarts=R --run-id=ID -- COMMAND"
        raise ConfigError(f"found {' '.join(argv[:place])!r}; allowed: {allowed}")
    nodes, spares, processes, max_restarts = map(int, numbers)
    return _Options(nodes, spares, processes, max_restarts, run_id, command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
