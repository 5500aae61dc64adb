"""The nodes of a distributed job before its processes start: checked, met, and what that comes to for this one.

Without pydantic, which the program that checks (`nexa_infra.health.join`) loads in a process of its own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nexa_contracts import env
from nexa_contracts.clock import Clock
from nexa_contracts.errors import AlreadyExists, ConfigError, NexaError
from nexa_contracts.states import NODE_UNHEALTHY
from nexa_infra.process import Child, SystemRunner
from nexa_infra.scheduling.hearing import Hearing
from nexa_infra.storage.atomic import create_file
from nexa_infra.storage.run_dir import RunDir

JOIN = "nexa_infra.health.join"
_KILLED_S = 2.0
_LEAST_S = 60.0
"""For a slow start of Python on every node, beside what the checks and rounds may take."""


@dataclass(frozen=True, slots=True)
class Attempted:
    """The attempt that is about to start, as its environment tells it."""

    run_dir: RunDir
    number: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Attempted:
        """Return it.

        Raises:
            ConfigError: this is no job.
        """
        folder, number = environment.get(env.RUN_DIR), environment.get(env.ATTEMPT, "")
        if not folder or not number.isdecimal():
            raise ConfigError(f"environment: {env.RUN_DIR} and {env.ATTEMPT} are not both set; nodes meet there")
        return cls(RunDir(Path(folder)), int(number))

    @property
    def meeting(self) -> Path:
        """Where its nodes meet."""
        return self.run_dir.meeting(self.number)

    def record_refusal(self, message: str, evidence: Sequence[str]) -> None:
        """Say in the attempt's result that its nodes were refused; a result that is there already holds."""
        failure = {"kind": NODE_UNHEALTHY, "message": message, "evidence": list(evidence)}
        data = json.dumps({"schema_version": 1, "failure": failure}, ensure_ascii=False).encode() + b"\n"
        try:
            create_file(self.run_dir.result(self.number), data)
        except AlreadyExists:
            return
        except NexaError as error:
            sys.stderr.write(f"nexa: {error}\n")


@dataclass(frozen=True, slots=True)
class Joined:
    """What follows for this node."""

    state: Literal["go", "leave", "stop", "told"]
    """As a JoinAnswer has it; `told`: it was asked to leave before that was known."""
    nodes: tuple[str, ...] = ()
    """Those of the training, in the order of their ranks."""
    words: str = ""
    evidence: tuple[str, ...] = ()


def read_plan(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Return what the nodes are checked for; None: they are not.

    Raises:
        ConfigError: the variable holds something else.
    """
    text = environment.get(env.HEALTH)
    try:
        plan = None if not text else json.loads(text)
    except ValueError as error:
        raise ConfigError(f"environment: {env.HEALTH}: not JSON: {error}") from error
    if plan is not None and not isinstance(plan, dict):
        raise ConfigError(f"environment: {env.HEALTH}: found {type(plan).__name__}; allowed: a health plan")
    return plan if plan and plan.get("request") is not None else None


@dataclass(frozen=True, slots=True)
class Joining:
    """This node among those that may train."""

    plan: Mapping[str, Any]
    attempted: Attempted
    run_id: str
    node: str
    nodes: tuple[str, ...]
    """Spares included, in the order of their ranks."""
    wanted: int

    def run(self, hearing: Hearing, *, environment: Mapping[str, str], clock: Clock) -> Joined:
        """Check this node, let it meet the others, and return what follows.

        Raises:
            CommandMissing: Python cannot be started.
        """
        child = SystemRunner().start((sys.executable, "-m", JOIN), output="pipes", env=environment, end_with_us=True)
        try:
            return self._await(child, hearing, clock)
        finally:
            child.send_signal(signal.SIGKILL)
            if child.wait(_KILLED_S) is None:
                child.let_go()  # it hangs in the kernel

    def _await(self, child: Child, hearing: Hearing, clock: Clock) -> Joined:
        with suppress(BrokenPipeError):  # it ended before it had read all; how, its status says
            child.stdin.write(json.dumps(self._order()).encode())
        child.close_input()
        limit_s = self._limit_s()
        deadline_s = clock.monotonic_s() + limit_s
        said, answer = child.stdout.fileno(), bytearray()
        os.set_blocking(said, False)
        while (part := _read(said)) != b"":
            answer += part or b""
            if (left_s := deadline_s - clock.monotonic_s()) <= 0:
                return Joined("leave", words=f"{self.node} does not join: its checks hang: no end after {limit_s:g} s")
            if signal.SIGTERM in hearing.listen(left_s, also=(said,)):
                return Joined("told")
        returncode = child.wait(_KILLED_S)
        if returncode == -signal.SIGTERM:
            return Joined("told")  # by Slurm, which tells every process
        return self._parse(bytes(answer), returncode)

    def _order(self) -> dict[str, Any]:
        return {
            "plan": self.plan,
            "run_id": self.run_id,
            "folder": str(self.attempted.meeting),
            "node": self.node,
            "nodes": list(self.nodes),
            "wanted": self.wanted,
        }

    def _limit_s(self) -> float:
        report_s, join_s = float(self.plan.get("report_s", 0)), float(self.plan.get("join_s", 0))
        rounds = len(self.nodes) - self.wanted + 1 if len(self.nodes) > 1 else 0
        return report_s + 3 * join_s * rounds + _LEAST_S

    def _parse(self, text: bytes, returncode: int | None) -> Joined:
        try:
            found = json.loads(text.splitlines()[-1])  # a site may greet whoever starts Python
            return Joined(found["state"], tuple(found["joined"]), found["words"], tuple(found["evidence"]))
        except (ValueError, LookupError, TypeError):
            words = f"{self.node} does not join: its check ended with status {returncode} and no answer"
            return Joined("leave", words=words)


def _read(descriptor: int) -> bytes | None:
    """Return what came through a pipe: nothing at its end, None while there is nothing yet."""
    try:
        return os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return None
