"""Starting jobs: room is found, GPUs are given out, and a job entry is started for each that may go."""

from __future__ import annotations

import logging
import secrets
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nexa_contracts import env
from nexa_contracts.clock import Clock
from nexa_contracts.errors import ExternalError, StorageError
from nexa_contracts.states import JobState
from nexa_infra.process import Child, CommandRunner, SystemRunner
from nexa_infra.scheduling.admission import Admission, Ask, Limits, Running, Waiting, admit, explain_misfit
from nexa_infra.scheduling.entry import inherit_environment
from nexa_infra.scheduling.evidence import find_unwritable
from nexa_infra.scheduling.local_queue import LocalQueue
from nexa_infra.scheduling.machine import Machine, read_machine
from nexa_infra.scheduling.process_tree import find_process
from nexa_infra.scheduling.queued_job import Job
from nexa_infra.scheduling.records import Failure, read_attempts
from nexa_infra.scheduling.settling import UNDIGESTED, Settler
from nexa_infra.scheduling.supervision import CARRIED
from nexa_infra.storage.run_dir import RunDir

logger = logging.getLogger(__name__)

_MODULE = "nexa_infra.scheduling.job_entry"
_LOOKED_AT = 100
"""How many waiting jobs are weighed at once; more would only find smaller gaps."""
_ENTRY_SLACK_S = 30.0
"""For the job entry around its program: start, leftovers, log."""
_LOOK_AGAIN_S = 60.0
"""Between two questions to a GPU driver that does not answer."""
_ROOM_AGAIN_S = 10.0
"""Between two looks at a full disk; meanwhile the jobs behind are weighed."""
_NO_ROOM = "waits for its disk: "


class Starter:
    """Gives out the machine."""

    def __init__(
        self, queue: LocalQueue, *, settler: Settler, environment: Mapping[str, str], log: Path, clock: Clock
    ) -> None:
        self._queue = queue
        self._settler = settler
        self._environment = environment
        self._log = log
        self._clock = clock
        self._inventory = Inventory(SystemRunner(), clock=clock)

    def start_ready(self, children: dict[int, Child], *, gone: Collection[int] = ()) -> None:
        """Start every job that may go now, and add their entries to `children` by job id.

        `gone` are jobs that count as running and hold nothing any more.
        """
        if not self._queue.list_needed_secrets() <= self._environment.keys():
            self._queue.note_missing_secrets(self._environment.keys())
        running = [job for job in self._queue.list_running() if job.job_id not in gone]
        machine = self._inventory.read()
        if sum(job.cpus for job in running) >= machine.cpus:
            return
        now_s = self._clock.monotonic_s()
        ready = self._queue.list_ready(
            self._environment.keys(), boot_id=self._settler.boot_id, now_s=now_s, limit=_LOOKED_AT
        )
        ready = self._hold_without_room(ready, now_s)
        ready = self._drop_misfits(_keep_parallel(ready, running), machine)
        admitted = admit(
            [_as_waiting(job) for job in ready], [_as_running(job, now_s) for job in running], machine, now_s=now_s
        )
        jobs = {job.job_id: job for job in ready}
        if admitted:
            self._start([(jobs[each.job_id], each) for each in admitted], machine, children)

    def _start(self, chosen: Sequence[tuple[Job, Admission]], machine: Machine, children: dict[int, Child]) -> None:
        # Noted before it is done: a supervisor that dies in between leaves a token to look for.
        planned: list[Job] = []
        for job, admission in chosen:
            try:
                attempt = len(read_attempts(RunDir(Path(job.run_dir)))) + 1
            except StorageError as error:
                self._hold(job, error.message)
                continue
            except UNDIGESTED as error:
                self._let_go(job, error)
                continue
            token = secrets.token_hex(16)
            planned.append(replace(job, attempt=attempt, token=token, gpu_ids=admission.gpus))
        self._queue.update_jobs({job.job_id: self._note(job) for job in planned})
        for job in planned:
            try:
                children[job.job_id] = self._start_entry(job, machine)
            except (ExternalError, OSError) as error:
                # It stays noted as running without a process, which the next look settles as a lost attempt.
                logger.warning("job entry cannot be started run_id=%s reason=%s", job.run_id, error)
            except UNDIGESTED as error:
                self._let_go(job, error)
        self._queue.update_jobs(
            {job.job_id: describe_process(children[job.job_id].pid) for job in planned if job.job_id in children}
        )

    def _note(self, job: Job) -> dict[str, object]:
        return {
            "state": JobState.RUNNING,
            "attempt": job.attempt,
            "token": job.token,
            "gpu_ids": job.gpu_ids,
            "boot_id": self._settler.boot_id,
            "started_s": self._clock.monotonic_s(),
            "started_at": self._clock.now().isoformat(),
            "ended_s": None,
            "pid": None,
            "start_ticks": None,
            "reason": None,
        }

    def _start_entry(self, job: Job, machine: Machine) -> Child:
        names = (*CARRIED, *job.secrets)
        told = inherit_environment(self._environment)
        told.update({name: self._environment[name] for name in names if name in self._environment})
        told[env.JOB_TOKEN] = job.token or ""
        if machine.gpus:
            # By default CUDA counts the fastest GPU first, nvidia-smi by bus.
            told["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
            told["CUDA_VISIBLE_DEVICES"] = ",".join(str(index) for index in job.gpu_ids)
        # -P: the folder it starts in is no place to import from.
        argv = [sys.executable, "-P", "-m", _MODULE, job.spec, "--index", str(job.idx), "--attempt", str(job.attempt)]
        spare = self._settler.find_spare(job)
        if spare is not None:
            argv += ["--spare", str(spare.path)]
        return SystemRunner().start(argv, output=self._log, cwd=Path("/"), env=told)

    def _hold_without_room(self, jobs: Sequence[Job], now_s: float) -> list[Job]:
        # An attempt whose log or record finds no room is lost, and with it a retry; waiting costs nothing.
        kept: list[Job] = []
        changes: dict[int, dict[str, object]] = {}
        for job in jobs:
            try:
                found = find_unwritable((Path(job.run_dir), Path(job.scratch)))
            except UNDIGESTED as error:
                self._let_go(job, error)
                continue
            if found is None:
                kept.append(job)
                if job.reason is not None and job.reason.startswith(_NO_ROOM):
                    changes[job.job_id] = {"reason": None}
                continue
            reason = f"{_NO_ROOM}{found[0]}: {found[1]}"
            if job.reason != reason:
                logger.warning("run waits run_id=%s reason=%s", job.run_id, reason)
            again = {"boot_id": self._settler.boot_id, "not_before_s": now_s + _ROOM_AGAIN_S}
            changes[job.job_id] = {"reason": reason, **again}
        if changes:
            self._queue.update_jobs(changes)
        return kept

    def _hold(self, job: Job, reason: str) -> None:
        # Said once: the reason stays the same at every look, several times a second.
        if job.reason != reason:
            logger.warning("run waits run_id=%s reason=%s", job.run_id, reason)
            self._queue.update_job(job.job_id, reason=reason)

    def _drop_misfits(self, jobs: Sequence[Job], machine: Machine) -> list[Job]:
        kept: list[Job] = []
        for job in jobs:
            if job.gpus and self._inventory.trouble is not None:
                self._hold(job, self._inventory.trouble)
                continue
            misfit = explain_misfit(as_ask(job), machine, _limits(job))
            if misfit is None:
                kept.append(job)
                continue
            try:
                values = self._settler.end_unstarted(job, JobState.FAILED, Failure("bad_request", misfit))
            except StorageError as error:
                self._hold(job, error.message)
                continue
            except UNDIGESTED as error:
                values = self._settler.let_go(job, error)
            self._queue.update_job(job.job_id, **values)
        return kept

    def _let_go(self, job: Job, error: Exception) -> None:
        self._queue.update_job(job.job_id, **self._settler.let_go(job, error))


class Inventory:
    """The machine as it was last read; a GPU driver that does not answer is asked again."""

    def __init__(self, runner: CommandRunner, *, clock: Clock) -> None:
        self._runner = runner
        self._clock = clock
        self._machine: Machine | None = None
        self._read_at_s = 0.0
        self.trouble: str | None = None
        """Why the GPUs are not known; jobs that ask for one wait meanwhile."""

    def read(self) -> Machine:
        """Return the machine, without GPUs while they are not known."""
        now_s = self._clock.monotonic_s()
        is_stale = self.trouble is not None and now_s - self._read_at_s >= _LOOK_AGAIN_S
        if self._machine is None or is_stale:
            self._read_at_s = now_s
            try:
                self._machine = read_machine(self._runner)
                self.trouble = None
            except ExternalError as error:
                logger.warning("gpus are not known reason=%s", error)
                self._machine = read_machine(self._runner, with_gpus=False)
                self.trouble = f"the GPUs of this machine are not known: {error.message}"
        return self._machine


def describe_process(pid: int) -> dict[str, object]:
    """Return the fields of a job that tell its entry's process; none when that is gone."""
    process = find_process(pid)
    return {} if process is None else {"pid": process.mark.pid, "start_ticks": process.mark.start_ticks}


def as_ask(job: Job) -> Ask:
    """Return what a queued job holds while it runs."""
    return Ask(cpus=job.cpus, memory_bytes=job.memory_bytes, gpus=job.gpus, share_gpus=job.share_gpus)


def _keep_parallel(ready: Sequence[Job], running: Sequence[Job]) -> list[Job]:
    # The queue leaves out a sweep that runs as many as it may; of the others, no more than are still allowed.
    counts = Counter(job.submission for job in running)
    kept: list[Job] = []
    for job in ready:
        counts[job.submission] += 1
        if job.max_parallel is None or counts[job.submission] <= job.max_parallel:
            kept.append(job)
    return kept


def _as_waiting(job: Job) -> Waiting:
    return Waiting(job_id=job.job_id, ask=as_ask(job), limits=_limits(job), longest_s=_longest_s(job))


def _as_running(job: Job, now_s: float) -> Running:
    started_s = job.started_s if job.started_s is not None else now_s
    return Running(ask=as_ask(job), gpus=job.gpu_ids, ends_by_s=started_s + _longest_s(job))


def _longest_s(job: Job) -> float:
    return job.walltime_s + job.grace_s + _ENTRY_SLACK_S


def _limits(job: Job) -> Limits:
    return Limits(cpus=job.limit_cpus, memory_bytes=job.limit_memory_bytes, gpus=job.limit_gpus)
