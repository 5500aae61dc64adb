"""What starts a program on every node of a Slurm allocation: `python -m nexa_infra.scheduling.step_entry --nodes=N
--cpus=C -- COMMAND...`.

It runs where the job entry runs, on the first node, and keeps the program's nodes together: one srun, whose stdin
carries signals to the nodes. srun would answer a SIGTERM by killing all of them.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nexa_contracts import env
from nexa_contracts.errors import ConfigError, NexaError
from nexa_contracts.exit_codes import CommandExit, WorkExit
from nexa_infra.process import Child, CommandRunner, SystemRunner
from nexa_infra.scheduling.hearing import PASSED_ON, WATCHED
from nexa_infra.scheduling.joining import Attempted, read_plan
from nexa_infra.scheduling.node_entry import STEP_TOKEN
from nexa_infra.scheduling.signals import SignalQueue

_ANSWER_S = 60.0
_JOB = re.compile(r"[0-9]+(?:_[0-9]+)?", re.ASCII)
_STEP = re.compile(r"[0-9]+(?:_[0-9]+)?\.[0-9]+", re.ASCII)
"""A step that srun started; the others are `.batch`, `.extern` and `.interactive`."""
_SHELL_SIGNALS = 128
_LOOK_S = 3600.0


def main(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run one step and return its status, which is the highest of its nodes; 1 when none of them started to train."""
    with SignalQueue(WATCHED) as signals:
        try:
            step = _parse(argv)
            end_leftovers(environment, SystemRunner())
            child = SystemRunner().start(
                render_srun(step), output="ours, with input", env=_tell(environment), end_with_us=True
            )
        except NexaError as error:
            sys.stderr.write(f"step entry: {error}\n")
            return error.exit_code
        watched = _watch(child, signals)
    status = watched.returncode if watched.returncode >= 0 else _SHELL_SIGNALS - watched.returncode
    try:
        if read_plan(environment) is not None and not _has_started(Attempted.from_environment(environment)):
            return _explain(status, Attempted.from_environment(environment), was_told=watched.was_told)
    except NexaError as error:
        sys.stderr.write(f"step entry: {error}\n")
        return status or error.exit_code
    return status


@dataclass(frozen=True, slots=True)
class Step:
    """What is to run on how many nodes, with how many cores on each."""

    nodes: int
    cpus: int
    command: tuple[str, ...]


def render_srun(step: Step) -> tuple[str, ...]:
    """Return the argument list of srun.

    Each option says what would else come from the environment that sbatch made: `--export` there lists names, and the
    step must get all of ours; the number of cores is not handed on by itself. `--wait=0` because the first node may
    have to finish a checkpoint long after the others are done.

    Source: https://slurm.schedmd.com/srun.html
    """
    return (
        "srun",
        f"--nodes={step.nodes}",
        f"--ntasks={step.nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={step.cpus}",
        "--export=ALL",
        "--input=all",
        "--kill-on-bad-exit=1",
        "--wait=0",
        *step.command,
    )


def end_leftovers(environment: Mapping[str, str], runner: CommandRunner) -> None:
    """End the steps of earlier attempts in this allocation: when srun is killed, its nodes go on.

    Raises:
        ExternalError: Slurm does not answer; a step could not be started either.
    """
    array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    # The SLURM_JOB_ID of an array's last task is the array's: with it the other tasks' steps would be ended too.
    job_id = f"{array}_{task}" if array and task else environment.get("SLURM_JOB_ID", "")
    if environment.get(env.ATTEMPT, "1") == "1" or _JOB.fullmatch(job_id) is None:
        return
    listing = ("squeue", "--noheader", "--steps", f"--jobs={job_id}", "--format=%i")
    found = runner.run(listing, timeout_s=_ANSWER_S).require_success().stdout.split()
    steps = [word for word in found if _STEP.fullmatch(word) and word.rpartition(".")[0] == job_id]
    if steps:
        runner.run(("scancel", "--signal=KILL", *steps), timeout_s=_ANSWER_S).require_success()


def _tell(environment: Mapping[str, str]) -> dict[str, str]:
    told = dict(environment)
    token = told.pop(env.JOB_TOKEN, None)
    return told if token is None else {**told, STEP_TOKEN: token}


@dataclass(frozen=True, slots=True)
class _Watched:
    returncode: int
    was_told: bool
    """To leave."""


def _watch(child: Child, signals: SignalQueue) -> _Watched:
    words = {number: word for word, number in PASSED_ON.items()}
    was_told = False
    while (returncode := child.poll()) is None:
        for number in sorted(signals.wait(_LOOK_S) & words.keys()):
            _tell_nodes(child, words[signal.Signals(number)])
            was_told = was_told or number == signal.SIGTERM
    child.close()
    return _Watched(returncode, was_told)


def _tell_nodes(child: Child, word: str) -> None:
    try:
        child.stdin.write(f"{word}\n".encode())
        child.stdin.flush()
    except BrokenPipeError:
        return  # srun is gone, and its end is all there is to wait for


def _has_started(attempted: Attempted) -> bool:
    """Return whether the nodes came to a decision under which some of them train."""
    from nexa_infra.health.decision import explain_refusals  # with them comes pydantic
    from nexa_infra.health.rendezvous import read_decision

    decision = read_decision(attempted.meeting)
    if decision is not None and decision.state == "stop":
        message = f"the training does not start: {decision.reason}"
        attempted.record_refusal(message, explain_refusals(decision.refused))
    return decision is not None and decision.state == "go"


def _explain(status: int, attempted: Attempted, *, was_told: bool) -> int:
    # The nodes that did not start have all left with 0, and the job entry must not take that for a success.
    if was_told:
        return WorkExit.SAVED_AND_LEFT
    if status == 0:
        sys.stderr.write(f"step entry: no node started; what each said stands above and in {attempted.meeting}\n")
    return status or CommandExit.FAILED


def _parse(argv: Sequence[str]) -> Step:
    # By hand: only our own launcher calls this, and every job waits for it.
    place = argv.index("--") if "--" in argv else len(argv)
    values = dict(word.removeprefix("--").split("=", 1) for word in argv[:place] if "=" in word)
    numbers = [values.pop(name, "") for name in ("nodes", "cpus")]
    command = tuple(argv[place + 1 :])
    if values or not command or not all(text.isdecimal() for text in numbers):
        raise ConfigError(f"found {' '.join(argv[:place])!r}; allowed: --nodes=N --cpus=C -- COMMAND")
    nodes, cpus = map(int, numbers)
    return Step(nodes, cpus, command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
