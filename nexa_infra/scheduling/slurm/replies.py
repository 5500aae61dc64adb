"""What Slurm's commands print, read: jobs of squeue and sacct, and the limits of a cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nexa_contracts.errors import UnreadableReply
from nexa_infra.scheduling.slurm.windows import parse_array

QUEUE_FIELDS = ("JobID", "ArrayJobID", "ArrayTaskID", "State", "exit_code", "RestartCnt", "NodeList", "Reason", "Name")
"""Fields of `squeue -O`; the name comes last, because any character may stand in it."""
ACCOUNT_FIELDS = ("JobID", "State", "ExitCode", "NodeList", "JobName")
_FLAG_STATES = (
    "COMPLETING", "STAGE_OUT", "CONFIGURING", "RESIZING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT",
    "STOPPED", "REVOKED", "RESV_DEL_HOLD", "SIGNALING",
)  # fmt: skip
"""In the order in which Slurm shows them instead of the state they come with."""
_ENDED = frozenset({"FAILED", "CANCELLED", "OUT_OF_MEMORY", "PREEMPTED", "DEADLINE", "BOOT_FAIL"})
_NO_NODES = {"", "None assigned", "(null)", "N/A"}
_ACCOUNT_ID = re.compile(r"([0-9]+)(?:_([0-9]+)|_\[([^\]]*)\]?)?")


@dataclass(frozen=True, slots=True)
class SlurmJob:
    """One record of the controller: a job, a task of an array, or the tasks of an array that wait together."""

    job_id: str
    """`123` or `123_4`; for several waiting tasks the array's own."""
    array_job_id: str
    """The same as `job_id` outside arrays."""
    task_ids: tuple[int, ...]
    """Rising; empty outside arrays."""
    name: str
    state: str
    """Slurm's word, as `NODE_FAIL`."""
    reason: str | None
    """Slurm's word for why it waits or failed."""
    exit_status: int | None
    """Negative for a signal; None while it goes on and where Slurm says zero of a job that did not succeed."""
    restarts: int | None
    """How often it was requeued; None where accounting says it, which does not count them."""
    nodes: str
    """Slurm's list, as `gpu[01-04]`; empty while it waits."""


@dataclass(frozen=True, slots=True)
class SlurmLimits:
    """What a cluster's configuration sets; None where it does not say."""

    cluster: str | None
    version: str | None
    max_array_size: int | None
    """One more than the largest task id."""
    max_job_count: int | None
    """Jobs of all users that the controller keeps at a time; each array task counts."""
    min_job_age_s: int | None
    """How long an ended job stays in the queue; 0 for ever, as Slurm has it."""
    kill_wait_s: int | None
    """Between SIGTERM and SIGKILL."""
    has_accounting: bool
    refuses_impossible: bool
    """Whether sbatch refuses what no node can ever run, instead of letting it wait for ever."""


def parse_queue_text(text: str) -> tuple[SlurmJob, ...]:
    """Return the jobs of `squeue -h -O` with a `|` behind each field.

    Without `-r`: squeue 22.05 leaves out the last task of an array with a step.

    Raises:
        UnreadableReply: it is none of that form, or a list of tasks was cut off.
    """
    jobs: list[SlurmJob] = []
    for line in text.splitlines():
        words = line.split("|", len(QUEUE_FIELDS) - 1)
        if len(words) != len(QUEUE_FIELDS) or not words[0].isdecimal():
            if line.strip() and not jobs:
                raise UnreadableReply(f"squeue: found {line[:80]!r}; allowed: {len(QUEUE_FIELDS)} fields")
            continue  # the rest of a name with a line end in it, which is no name of ours
        _, array, tasks, state, status, restarts, nodes, reason, name = words
        job = SlurmJob(
            job_id=array,
            array_job_id=array,
            task_ids=(),
            name=name.removesuffix("|"),
            state=state,
            reason=_reason(reason),
            exit_status=_exit_status(state, _wait_status(status)),
            restarts=int(restarts) if restarts.isdecimal() else None,
            nodes="" if nodes in _NO_NODES else nodes,
        )
        try:
            jobs.append(_with_tasks(job, () if tasks == "N/A" else parse_array(tasks)))
        except ValueError as error:
            raise UnreadableReply(f"squeue: found tasks {tasks[-80:]!r}; allowed: as 0-99,104") from error
    return _sorted(jobs)


def parse_queue_json(text: str, *, user_id: int | None = None) -> tuple[SlurmJob, ...]:
    """Return the jobs of `squeue --json`, of one user or of all; reads the shapes of 22.05 to 24.11.

    Raises:
        UnreadableReply: it is no JSON, or jobs have other fields.
    """
    try:
        jobs = json.loads(text)["jobs"]
        mine = [job for job in jobs if user_id is None or job["user_id"] == user_id]
        return _sorted(_from_json(job) for job in mine)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableReply(f"squeue --json: {type(error).__name__}: {error}") from error


def parse_account(text: str) -> tuple[SlurmJob, ...]:
    """Return the jobs of `sacct -n -P -X`; tasks that wait together and have no readable list are left out.

    Raises:
        UnreadableReply: a line has other fields.
    """
    jobs: list[SlurmJob] = []
    for line in text.splitlines():
        words = line.split("|", len(ACCOUNT_FIELDS) - 1)
        match = _ACCOUNT_ID.fullmatch(words[0])
        if len(words) != len(ACCOUNT_FIELDS) or match is None:
            raise UnreadableReply(f"sacct: found {line[:80]!r}; allowed: {len(ACCOUNT_FIELDS)} fields")
        array, task, waiting = match.groups()
        try:
            tasks = parse_array(waiting) if waiting else () if task is None else (int(task),)
        except ValueError:
            continue  # Slurm cut the list off; the queue itself has these tasks
        state = words[1].partition(" ")[0]  # `CANCELLED by 1000`
        job = SlurmJob(
            job_id=array,
            array_job_id=array,
            task_ids=(),
            name=words[4],
            state=state,
            reason=None,
            exit_status=_exit_status(state, _wait_status(words[2])),
            restarts=None,
            nodes="" if words[3] in _NO_NODES else words[3],
        )
        jobs.append(_with_tasks(job, tasks))
    return _sorted(jobs)


def parse_limits(text: str) -> SlurmLimits:
    """Return the limits of `scontrol show config`; what it does not name is None."""
    pairs = (line.partition("=") for line in text.splitlines())
    values = {key.strip(): value.strip() for key, mark, value in pairs if mark}
    return SlurmLimits(
        cluster=values.get("ClusterName"),
        version=values.get("SLURM_VERSION"),
        max_array_size=_leading_number(values.get("MaxArraySize")),
        max_job_count=_leading_number(values.get("MaxJobCount")),
        min_job_age_s=_leading_number(values.get("MinJobAge")),
        kill_wait_s=_leading_number(values.get("KillWait")),
        has_accounting=values.get("AccountingStorageType", "").endswith("/slurmdbd"),
        refuses_impossible=values.get("EnforcePartLimits", "NO") != "NO",
    )


def _from_json(job: Mapping[str, Any]) -> SlurmJob:
    array = str(_number(job["array_job_id"]) or job["job_id"])
    task, waiting = _number(job["array_task_id"]), job["array_task_string"]
    state = _state(job["job_state"])
    found = SlurmJob(
        job_id=array,
        array_job_id=array,
        task_ids=(),
        name=job["name"],
        state=state,
        reason=_reason(job["state_reason"]),
        exit_status=_exit_status(state, _json_wait_status(job["exit_code"])),
        restarts=_number(job["restart_cnt"]),
        nodes=job["nodes"] or "",
    )
    return _with_tasks(found, parse_array(waiting) if waiting else () if task is None else (task,))


def _with_tasks(job: SlurmJob, tasks: Iterable[int]) -> SlurmJob:
    ids = tuple(sorted(tasks))
    job_id = f"{job.array_job_id}_{ids[0]}" if len(ids) == 1 else job.array_job_id
    return replace(job, job_id=job_id, task_ids=ids)


def _sorted(jobs: Iterable[SlurmJob]) -> tuple[SlurmJob, ...]:
    return tuple(sorted(jobs, key=lambda job: (int(job.array_job_id), job.task_ids)))


def _number(value: Any) -> int | None:
    # Since 23.02 a number is {"set": true, "infinite": false, "number": 5}.
    if isinstance(value, Mapping):
        return int(value["number"]) if value["set"] else None
    return None if value is None else int(value)


def _state(value: str | list[str]) -> str:
    # Since 23.11 a list: the state, and what is happening to it.
    if isinstance(value, str):
        return value
    return next((flag for flag in _FLAG_STATES if flag in value), value[0])


def _json_wait_status(value: Any) -> int | None:
    if not isinstance(value, Mapping) or "return_code" not in value:
        return _number(value)
    code, number = _number(value["return_code"]), _number(value["signal"]["id"])
    return ((code or 0) << 8) | (number or 0)


def _wait_status(text: str) -> int | None:
    code, mark, number = text.partition(":")
    if not code.isdecimal() or (mark and not number.isdecimal()):
        return None
    return (int(code) << 8) | int(number) if mark else int(code)


def _exit_status(state: str, wait_status: int | None) -> int | None:
    if wait_status is None or (state != "COMPLETED" and not (state in _ENDED and wait_status)):
        return None  # TIMEOUT and NODE_FAIL say 0: the state is what counts
    number = wait_status & 0x7F
    return -number if number else wait_status >> 8


def _reason(text: str) -> str | None:
    word = text.partition(",")[0]  # `ReqNodeNotAvail, UnavailableNodes:n3` in text, the first word in JSON
    return None if word in ("", "None", "(null)") else word


def _leading_number(text: str | None) -> int | None:
    match = re.match(r"[0-9]+", text or "")
    return None if match is None else int(match.group())
