"""Keeping a supervisor alive, from the side of whoever needs one: launchers and everything that asks for states."""

from __future__ import annotations

import signal
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from nexa_contracts import env
from nexa_contracts.clock import Clock
from nexa_contracts.errors import ConfigError
from nexa_infra.process import SystemRunner
from nexa_infra.scheduling.entry import inherit_environment
from nexa_infra.scheduling.local_queue import LocalQueue
from nexa_infra.scheduling.lock import FileLock
from nexa_infra.scheduling.process_tree import ProcessMark, find_process, is_alive, read_environment, send_signal
from nexa_infra.scheduling.state_dir import StateDir

_MODULE = "nexa_infra.scheduling.supervisor"
_REPLACE_S = 15.0
"""For one supervisor to leave and the next to start."""
_POLL_S = 0.02
CARRIED = ("PYTHONPATH", env.STATE_DIR, "XDG_STATE_HOME")
"""What our own programs need beside the minimum; jobs do not get it."""


def ensure_supervisor(
    state: StateDir,
    queue: LocalQueue,
    *,
    environment: Mapping[str, str],
    clock: Clock,
    fresh: Collection[str] = (),
) -> None:
    """Make sure that a supervisor looks after the queue, and that it holds the secrets that its jobs need.

    Values come from `environment`, else from the supervisor that runs now; its jobs go on when it is replaced. There
    is one value per name and user: for the names in `fresh`, those of a new submission, a differing value of
    `environment` replaces the older one.
    """
    needed = queue.list_needed_secrets()
    running = find_supervisor(state, queue)
    if running is not None and not _is_wanting(running, environment, needed, fresh):
        send_signal(running.pid, signal.SIGUSR1)
        return
    with FileLock(state.launch_lock) as lock:
        # One launcher at a time. Where secrets are at stake it stays until its supervisor is there, because the next
        # launcher reads the older values from it.
        if not lock.acquire(wait_s=_REPLACE_S if needed else 0.0, clock=clock):
            return  # a supervisor is being started at this moment, and will find our jobs
        running = find_supervisor(state, queue)
        if running is None and _is_starting(lock):
            if not needed:
                return
            running = _wait_for_another(None, state, queue, clock=clock)
        if running is not None and not _is_wanting(running, environment, needed, fresh):
            send_signal(running.pid, signal.SIGUSR1)
            return
        told = _tell(environment, {} if running is None else read_environment(running.pid), needed)
        if running is not None:
            send_signal(running.pid, signal.SIGTERM)
        _start_supervisor(state, told, lock)
        if needed:
            _wait_for_another(running, state, queue, clock=clock)


def _is_starting(lock: FileLock) -> bool:
    """Whether the supervisor that was started last lives; if it is not yet or no more supervising, it will look at
    the queue once more.
    """
    words = lock.read_note().split()
    return len(words) == 2 and all(word.isdecimal() for word in words) and is_alive(ProcessMark(*map(int, words)))


def _wait_for_another(
    than: ProcessMark | None, state: StateDir, queue: LocalQueue, *, clock: Clock
) -> ProcessMark | None:
    deadline_s = clock.monotonic_s() + _REPLACE_S
    while clock.monotonic_s() < deadline_s:
        running = find_supervisor(state, queue)
        if running is not None and running != than:
            return running
        clock.sleep(_POLL_S)
    return None


def _is_wanting(
    running: ProcessMark, environment: Mapping[str, str], needed: Collection[str], fresh: Collection[str]
) -> bool:
    held = read_environment(running.pid) if needed or fresh else {}
    is_lacking = any(name in environment and name not in held for name in needed)
    return is_lacking or any(name in environment and environment[name] != held.get(name) for name in fresh)


def _tell(environment: Mapping[str, str], held: Mapping[str, str], needed: Collection[str]) -> dict[str, str]:
    told = inherit_environment(environment)
    told.update({name: environment[name] for name in CARRIED if name in environment})
    told.update({name: held[name] for name in needed if name in held})
    told.update({name: environment[name] for name in needed if name in environment})
    return told


def _start_supervisor(state: StateDir, told: Mapping[str, str], lock: FileLock) -> None:
    argv = (sys.executable, "-P", "-m", _MODULE, str(state.path))
    pid = SystemRunner().start_detached(argv, output=state.log, cwd=Path("/"), env=told)
    process = find_process(pid)
    lock.write_note(f"{pid} {process.mark.start_ticks}" if process is not None else "")


def check_secrets(
    names: Collection[str], state: StateDir, queue: LocalQueue, *, environment: Mapping[str, str]
) -> None:
    """Judge whether every secret that a submission names has a value.

    Raises:
        ConfigError: one is set neither here nor in the supervisor.
    """
    missing = sorted(name for name in names if name not in environment)
    if missing:
        running = find_supervisor(state, queue)
        held = {} if running is None else read_environment(running.pid)
        missing = [name for name in missing if name not in held]
    if missing:
        raise ConfigError(
            f"secrets: {', '.join(missing)}: not set in this environment",
            hint=f"export {missing[0]}=... in the shell that launches; its value is passed on and never recorded",
        )


def find_supervisor(state: StateDir, queue: LocalQueue) -> ProcessMark | None:
    """Return the supervisor that lives and has the queue in its hands; None when there is none yet or any more."""
    mark = queue.find_supervisor()
    return mark if mark is not None and is_alive(mark) and is_supervised(state) else None


def is_supervised(state: StateDir) -> bool:
    """Whether a supervisor holds the lock."""
    with FileLock(state.lock) as lock:
        return lock.is_held_by_another()
