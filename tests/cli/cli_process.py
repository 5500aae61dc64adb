"""The command line as a person starts it: a process in a project's folder."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexa_infra.operations.backends import state_dir as find_state_dir
from nexa_infra.process import Completed, SystemRunner
from nexa_infra.scheduling.local_queue import LocalQueue
from nexa_infra.scheduling.process_tree import is_alive, send_signal
from nexa_infra.storage.layout import Project

HELLO = """\
name: hello
command: [python3, -c, "import os; print('hello from', os.environ['NEXA_RUN_ID'])"]
resources: {walltime: 1m, memory: 64MiB}
"""


@dataclass(frozen=True, slots=True)
class Cli:
    """Runs `nexa` in a project's folder."""

    project: Project

    def __call__(self, *arguments: str, env: dict[str, str] | None = None, timeout_s: float = 120.0) -> Completed:
        argv = [sys.executable, "-m", "nexa_cli.main", *arguments]
        return SystemRunner().run(argv, timeout_s=timeout_s, cwd=self.project.root, env={**os.environ, **(env or {})})

    def ok(self, *arguments: str, env: dict[str, str] | None = None, timeout_s: float = 120.0) -> str:
        done = self(*arguments, env=env, timeout_s=timeout_s)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def json(self, *arguments: str, env: dict[str, str] | None = None) -> Any:
        return json.loads(self.ok(*arguments, "--json", env=env))

    def write(self, name: str, text: str) -> Path:
        path = self.project.root / name
        path.write_text(text, encoding="utf-8")
        return path


def end_supervisor() -> None:
    """End the supervisor of this test's queue, so that no process outlives the test."""
    queue_file = find_state_dir(os.environ).queue
    if not queue_file.exists():
        return
    with LocalQueue(queue_file) as queue:
        mark = queue.find_supervisor()
        if mark is not None and is_alive(mark):
            send_signal(mark.pid, signal.SIGTERM)
