"""What runs on each node of a distributed job: `python -m nexa_infra.scheduling.node_entry OPTIONS -- COMMAND...`.

It starts torchrun, and stands between its processes and whoever speaks to the node: the job entry on one node, the step
entry on several. There a signal comes as its name on a line of stdin, because srun itself makes a SIGKILL of a SIGTERM;
a SIGTERM that Slurm sends has reached every process of the step already.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nexa_contracts import env
from nexa_contracts.clock import Clock, SystemClock
from nexa_contracts.errors import ConfigError, NexaError
from nexa_infra.launchers.torchrun import AGENT_IS_DEAF_TO, Group, Meeting, render_torchrun
from nexa_infra.process import Child, SystemRunner
from nexa_infra.scheduling.placement import find_meeting
from nexa_infra.scheduling.process_tree import ignores_signal, list_children, signal_group
from nexa_infra.scheduling.signals import SignalQueue

STEP_TOKEN = "NEXA_STEP_TOKEN"  # noqa: S105 - the name of a variable
"""The job's token on its way through srun. The entry itself must not carry it: Slurm's own process is in its session,
and would be taken for a part of the job."""
PASSED_ON = {"TERM": signal.SIGTERM, "USR1": signal.SIGUSR1, "USR2": signal.SIGUSR2}
"""What the processes are told, by the name under which it comes on stdin."""
_WATCHED = (signal.SIGCHLD, *PASSED_ON.values())
_LOOK_AGAIN_S = 0.2
_FAREWELL_S = 10.0
"""srun kills the other nodes as soon as one fails. Their processes see the connection break by themselves, and the
first one may be about to write down why."""
_SHELL_SIGNALS = 128


def main(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the processes of this node and return torchrun's status: 0 too when they were told to leave and did."""
    with SignalQueue(_WATCHED) as signals:
        try:
            options = _parse(argv)
            meeting = None
            if options.nodes > 1:
                meeting = find_meeting(environment, nodes=options.nodes, runner=SystemRunner())
            return _Node(options, meeting, signals, SystemClock()).run(environment)
        except NexaError as error:
            sys.stderr.write(f"node entry: {error}\n")
            return error.exit_code


@dataclass(slots=True)
class _Node:
    options: _Options
    meeting: Meeting | None
    signals: SignalQueue
    clock: Clock
    _is_leaving: bool = False
    _told: set[int] = field(default_factory=set)
    """Processes that know they have to leave."""
    _unread: bytes = b""
    _is_listening: bool = field(init=False)

    def __post_init__(self) -> None:
        self._is_listening = self.meeting is not None

    def run(self, environment: Mapping[str, str]) -> int:
        """Run torchrun to its end and return a status."""
        told = {name: text for name, text in environment.items() if name != STEP_TOKEN}
        if environment.get(STEP_TOKEN):
            told[env.JOB_TOKEN] = environment[STEP_TOKEN]
        group = Group(
            nodes=self.options.nodes,
            processes=self.options.processes,
            max_restarts=self.options.max_restarts,
            rendezvous_id=f"{self.options.run_id}-{environment.get(env.ATTEMPT) or 1}",
        )
        argv = render_torchrun(self.options.command, group, self.meeting)
        told |= group.environment
        child = SystemRunner().start(argv, output="ours", env=told, end_with_us=True, deaf_to=AGENT_IS_DEAF_TO)
        while (returncode := child.poll()) is None:
            for number in self._listen(_LOOK_AGAIN_S if self._is_leaving else None):
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

    def _listen(self, timeout_s: float | None) -> list[signal.Signals]:
        """Return the signals that are to be passed on, as soon as anything happens."""
        told = [sys.stdin.fileno()] if self._is_listening else []
        ready, _, _ = select.select([self.signals.fileno(), *told], [], [], timeout_s)
        arrived = self.signals.wait(0.0)
        if self.meeting is None:
            return [number for number in PASSED_ON.values() if number in arrived]
        return self._read() if set(told) & set(ready) else []

    def _read(self) -> list[signal.Signals]:
        chunk = os.read(sys.stdin.fileno(), 4096)
        self._is_listening = bool(chunk)
        *lines, self._unread = (self._unread + chunk).split(b"\n")
        words = [line.decode(errors="replace") for line in lines]
        return [PASSED_ON[word] for word in words if word in PASSED_ON]

    def _say_farewell(self) -> None:
        deadline_s = self.clock.monotonic_s() + _FAREWELL_S
        while (left_s := deadline_s - self.clock.monotonic_s()) > 0:
            if signal.SIGTERM in self._listen(left_s):
                return


@dataclass(frozen=True, slots=True)
class _Options:
    nodes: int
    processes: int
    max_restarts: int
    run_id: str
    command: tuple[str, ...]


def _parse(argv: Sequence[str]) -> _Options:
    # By hand: only our own launcher calls this, and every job waits for it.
    place = argv.index("--") if "--" in argv else len(argv)
    values = dict(word.removeprefix("--").split("=", 1) for word in argv[:place] if "=" in word)
    command = tuple(argv[place + 1 :])
    numbers = [values.pop(name, "") for name in ("nodes", "processes", "max-restarts")]
    run_id = values.pop("run-id", "")
    if values or not (command and run_id and all(text.isdecimal() for text in numbers)):
        allowed = "--nodes=N --processes=P --max-restarts=R --run-id=ID -- COMMAND"
        raise ConfigError(f"found {' '.join(argv[:place])!r}; allowed: {allowed}")
    nodes, processes, max_restarts = map(int, numbers)
    return _Options(nodes, processes, max_restarts, run_id, command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
