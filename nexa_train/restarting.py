"""A training that torchrun started again: what its predecessor left running is ended before anything is read."""

from __future__ import annotations

import json
import logging
import signal
import time
from pathlib import Path

from nexa_contracts import env
from nexa_contracts.clock import SystemClock
from nexa_infra.launchers.crashes import ERROR_FILE
from nexa_infra.scheduling.process_tree import find_process, is_alive, list_carriers, send_signal
from nexa_infra.scheduling.torchrun import count_restarts
from nexa_train.job import Job

logger = logging.getLogger(__name__)

_PROMOTER = b"nexa_infra.storage.promoter"
_WAIT_S = 30.0
_POLL_S = 0.05


def tell_crash(job: Job, error: BaseException, *, step: int | None = None) -> None:
    """Say what this process dies of, where torchrun and what runs around it look; what was said first stays."""
    path = job.environment.get(ERROR_FILE)
    if not path or Path(path).exists():
        return
    now = int(SystemClock().now().timestamp())
    told = {"message": f"{type(error).__name__}: {error}", "timestamp": now, "step": step}
    try:
        Path(path).write_text(json.dumps(told))
    except OSError as trouble:
        logger.warning("what this process dies of is not told: %s", trouble)


def end_predecessor(job: Job) -> None:
    """End the promoter of a first process that died in this attempt, on this machine.

    It may be sealing the very folder that is now written anew. What it has not sealed is not used; between two attempts
    the job entry does this.
    """
    token = job.environment.get(env.JOB_TOKEN)
    if not token or not job.is_main or count_restarts(job.run_dir, job.attempt) == 0:
        return
    for pid in list_carriers(token):
        process = find_process(pid)
        if process is None or not _is_promoter(pid):
            continue
        logger.warning("ending the promoter of the processes that were here before pid=%d", pid)
        send_signal(pid, signal.SIGKILL)
        deadline_s = time.monotonic() + _WAIT_S
        while is_alive(process.mark) and time.monotonic() < deadline_s:
            time.sleep(_POLL_S)


def _is_promoter(pid: int) -> bool:
    try:
        return _PROMOTER in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
