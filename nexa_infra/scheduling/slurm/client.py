"""The one caller of sbatch, squeue, scancel, scontrol and sacct: arguments, a time-out of ours, typed answers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NoReturn

from nexa_contracts.clock import Clock
from nexa_contracts.errors import CommandMissing, CommandTimedOut, ExternalError, UnreadableReply
from nexa_infra.process import CommandRunner, Completed, tail
from nexa_infra.scheduling.slurm.options import hand_on
from nexa_infra.scheduling.slurm.partitions import PARTITION_FIELDS, NodeGroup, parse_partitions
from nexa_infra.scheduling.slurm.replies import (
    ACCOUNT_FIELDS,
    QUEUE_FIELDS,
    SlurmJob,
    SlurmLimits,
    parse_account,
    parse_limits,
    parse_queue_json,
    parse_queue_text,
)
from nexa_infra.scheduling.slurm.words import find_hint, is_absent, is_all_ended, is_silence

__all__ = ["SlurmClient", "SlurmJob", "SlurmLimits", "SlurmMissing", "SlurmRefused", "SlurmUnreachable"]

_IDS_AT_ONCE = 2_000
_LONGEST_NAMES = 50_000
_KEPT = ("SLURM_CONF", "SBATCH_ACCOUNT", "SBATCH_PARTITION", "SBATCH_QOS", "SBATCH_CONSTRAINT", "SBATCH_RESERVATION")
_SLURMS_OWN = ("SLURM_", "SBATCH_", "SQUEUE_", "SCANCEL_", "SACCT_", "SCONTROL_", "SRUN_")
_JOB_ID = re.compile(r"[0-9]{1,10}(?:_[0-9]{1,9})?")
_SUBMITTED = re.compile(r"([0-9]+)(?:;.*)?")
_NODE_LIST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:\[[0-9,-]+\][A-Za-z0-9._-]*)*")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


class SlurmMissing(ExternalError):
    """Slurm is not installed on this machine, or not set up."""


class SlurmRefused(ExternalError):
    """Slurm answered, and said no."""


class SlurmUnreachable(ExternalError):
    """No answer in time: nothing is known, neither whether it did what was asked nor about any job."""


class SlurmClient:
    """Asks one cluster, as this user. Methods may be called by several threads.

    Every method raises SlurmMissing, SlurmRefused or SlurmUnreachable.
    """

    def __init__(
        self, runner: CommandRunner, *, environment: Mapping[str, str], clock: Clock, timeout_s: float = 20.0
    ) -> None:
        """Use the commands on PATH of `environment`, whose variables jobs may be given by name."""
        self._runner = runner
        self._clock = clock
        self._timeout_s = timeout_s
        # Settings for people (SQUEUE_FORMAT, SBATCH_WAIT) and those of a job we may be in would change what happens.
        self._environment = {
            name: value for name, value in environment.items() if name in _KEPT or not name.startswith(_SLURMS_OWN)
        }
        self._environment["SLURM_BITSTR_LEN"] = "0"  # squeue cuts lists of array tasks off at 64 characters otherwise

    def submit(self, options: Sequence[str], script: Path, arguments: Sequence[str]) -> str:
        """Return the id of the job that sbatch made; relative paths among the options start at the script's folder.

        SlurmUnreachable leaves open whether there is a job now: look for its name before submitting again.
        """
        environment, options = hand_on(options, self._environment, besides=_KEPT)
        argv = ["sbatch", "--parsable", *options, script.name, *arguments]
        said = self._ask(argv, cwd=script.parent, environment=environment).stdout.strip()
        match = _SUBMITTED.fullmatch(said)
        if match is None:
            raise SlurmUnreachable(f"sbatch: found {said[:80]!r}; allowed: the number of a job")
        return match.group(1)

    def list_jobs(self, *, names: Iterable[str] | None = None) -> tuple[SlurmJob, ...]:
        """Return this user's jobs that the controller knows, in every state, or those with one of the names.

        One query. The text form goes first: 500 ended tasks are 17 KB and 0.02 s, as JSON 1.8 MB and 0.17 s, and
        before 23.02 `--json` leaves out the filters and lists the jobs of everybody. A release whose text cannot be
        read is asked for JSON.
        """
        wanted = None if names is None else frozenset(names)
        if wanted is not None and not wanted:
            return ()
        end_s = self._clock.monotonic_s() + self._timeout_s
        try:
            jobs = self.list_by_text(wanted)
        except (SlurmRefused, UnreadableReply):
            jobs = self.list_by_json(wanted, timeout_s=max(1.0, end_s - self._clock.monotonic_s()))
        return jobs

    def list_by_text(self, names: frozenset[str] | None = None) -> tuple[SlurmJob, ...]:
        """Return what `list_jobs` does, from `squeue -O`.

        Raises:
            UnreadableReply: this release prints something else.
        """
        form = ",".join(f"{field}:|" for field in QUEUE_FIELDS)
        argv = ["squeue", "--me", "--noheader", "--states=all", f"--Format={form}", *_name_filter(names)]
        return _only(parse_queue_text(self._ask(argv).stdout), names)

    def list_by_json(
        self, names: frozenset[str] | None = None, *, timeout_s: float | None = None
    ) -> tuple[SlurmJob, ...]:
        """Return what `list_jobs` does, from `squeue --json`.

        Raises:
            UnreadableReply: this release has no such option, or prints something else.
        """
        argv = ["squeue", "--me", "--states=all", "--json", *_name_filter(names)]
        said = self._ask(argv, timeout_s=timeout_s).stdout
        return _only(parse_queue_json(said, user_id=os.getuid()), names)

    def account(self, job_ids: Iterable[str]) -> tuple[SlurmJob, ...] | None:
        """Return what accounting knows of jobs, arrays with all their tasks; None: this cluster has no accounting."""
        jobs: list[SlurmJob] = []
        for ids in _batches(job_ids):
            form = ",".join(ACCOUNT_FIELDS)
            argv = [
                "sacct",
                "--noheader",
                "--parsable2",
                "--allocations",
                f"--format={form}",
                f"--jobs={','.join(ids)}",
            ]
            try:
                said = self._ask(argv).stdout
            except SlurmRefused as error:
                if "accounting storage is disabled" in error.message.lower():
                    return None
                raise
            jobs += parse_account(said)
        return tuple(jobs)

    def cancel(self, job_ids: Iterable[str], *, name: str | None = None) -> None:
        """Ask for the end of jobs, arrays or tasks; those that have ended are left alone.

        With a name only jobs of that name: a controller that lost its state gives ids out again. It is looked up, for
        scancel itself, given a name and one task of an array, ends every task of it that waits (22.05).
        """
        ids = _checked(job_ids)
        if name is not None:
            ours = {job.array_job_id for job in self.list_jobs(names=(name,))}
            ids = [job_id for job_id in ids if job_id.partition("_")[0] in ours]
        for some in _batches(ids):
            completed = self._run(["scancel", *some])
            if completed.returncode != 0 and not is_all_ended(completed.stderr):
                _refuse("scancel", completed)

    def requeue(self, job_id: str) -> None:
        """Let a job or a task start again; a running one is ended by this."""
        self._ask(["scontrol", "requeue", *_checked([job_id])])

    def release(self, job_id: str) -> None:
        """Let a job or a task that is held be started."""
        self._ask(["scontrol", "release", *_checked([job_id])])

    def show_job(self, job_id: str) -> dict[str, str]:
        """Return the fields of one job or task, as `scontrol show job` names them."""
        said = self._ask(["scontrol", "--oneliner", "show", "job", *_checked([job_id])]).stdout
        return {name: value for name, _, value in (word.partition("=") for word in said.split()) if value}

    def read_limits(self) -> SlurmLimits:
        """Return what the cluster's configuration sets."""
        return parse_limits(self._ask(["scontrol", "show", "config"]).stdout)

    def list_partitions(self, *, without: Sequence[str] = ()) -> tuple[NodeGroup, ...]:
        """Return what the partitions have that this user sees, nodes that are down included.

        Nodes that are named, or stand in a list that is, do not count.
        """
        if not without:
            return parse_partitions(self._ask(["sinfo", "--noheader", f"--format={PARTITION_FIELDS}"]).stdout)
        left_out = {name for nodelist in without for name in self._expand(nodelist)}
        argv = ["sinfo", "--noheader", "--Node", f"--format={PARTITION_FIELDS}|%N"]
        return parse_partitions(self._ask(argv).stdout, without=left_out)

    def list_nodes(self) -> frozenset[str]:
        """Return the names of all nodes that this user sees."""
        return frozenset(self._ask(["sinfo", "--noheader", "--Node", "--format=%N"]).stdout.split())

    def exclude(self, job_id: str, nodes: Sequence[str]) -> None:
        """Let a job or a task that waits leave out these nodes and no others."""
        wrong = [node for node in nodes if _NODE_LIST.fullmatch(node) is None]
        if wrong:
            raise UnreadableReply(f"node: found {wrong[0][:80]!r}; allowed: as n1")
        words = [f"JobId={_checked([job_id])[0]}", f"ExcNodeList={','.join(nodes)}"]
        self._ask(["scontrol", "update", *words])

    def expand_hosts(self, nodelist: str) -> tuple[str, ...]:
        """Return the names in a list of nodes, in its order: `gpu[01-03]` is gpu01, gpu02, gpu03.

        Raises:
            UnreadableReply: it is no such list; scontrol itself would return some of it.
        """
        if any(_NODE_LIST.fullmatch(part) is None for part in re.split(r",(?![^\[]*\])", nodelist)):
            raise UnreadableReply(f"list of nodes: found {nodelist[:80]!r}; allowed: as n1,gpu[01-03,07]")
        return tuple(self._ask(["scontrol", "show", "hostnames", nodelist]).stdout.split())

    def _expand(self, nodelist: str) -> tuple[str, ...]:
        return self.expand_hosts(nodelist) if "[" in nodelist else (nodelist,)

    def _ask(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        timeout_s: float | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Completed:
        completed = self._run(argv, cwd=cwd, timeout_s=timeout_s, environment=environment)
        if completed.returncode != 0:
            _refuse(argv[0], completed)
        return completed

    def _run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        timeout_s: float | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Completed:
        place = self._environment.get("SLURM_CONF")
        if place is not None and not Path(place).is_file():  # the commands would look for a minute
            raise SlurmMissing(f"SLURM_CONF={place}: no such file", hint="unset it, or name the cluster's slurm.conf")
        try:
            return self._runner.run(
                argv,
                timeout_s=self._timeout_s if timeout_s is None else timeout_s,
                cwd=cwd,
                env=environment or self._environment,
            )
        except CommandMissing as error:
            raise SlurmMissing(
                f"{argv[0]}: not found: slurm is not installed here", hint="start this on a login node of the cluster"
            ) from error
        except CommandTimedOut as error:
            raise SlurmUnreachable(
                f"{argv[0]}: no answer within {self._timeout_s:g} s; nothing is known about the jobs",
                hint="try again when `scontrol ping` says UP; slurm.answer_timeout of the site file waits longer",
            ) from error


def _refuse(program: str, completed: Completed) -> NoReturn:
    said = tail(completed.stderr) or tail(completed.stdout)
    if is_absent(said):
        raise SlurmMissing(
            f"{program}: {said}", hint="set SLURM_CONF to the cluster's slurm.conf, or start this on a login node"
        )
    if completed.returncode < 0 or not said or is_silence(said):
        raise SlurmUnreachable(
            f"{program}: {said or f'ended with status {completed.returncode} and no word'}",
            hint="nothing is known about the jobs; try again when `scontrol ping` says UP",
        )
    raise SlurmRefused(f"{program}: {said}", hint=find_hint(said))


def _name_filter(names: frozenset[str] | None) -> list[str]:
    if names is None or any(_NAME.fullmatch(name) is None for name in names):
        return []
    text = ",".join(sorted(names))
    return [f"--name={text}"] if len(text) <= _LONGEST_NAMES else []


def _only(jobs: tuple[SlurmJob, ...], names: frozenset[str] | None) -> tuple[SlurmJob, ...]:
    return jobs if names is None else tuple(job for job in jobs if job.name in names)


def _batches(job_ids: Iterable[str]) -> Iterable[list[str]]:
    ids = iter(_checked(job_ids))
    while batch := list(islice(ids, _IDS_AT_ONCE)):
        yield batch


def _checked(job_ids: Iterable[str]) -> list[str]:
    ids = list(dict.fromkeys(job_ids))
    wrong = [job_id for job_id in ids if _JOB_ID.fullmatch(job_id) is None]
    if wrong:
        raise UnreadableReply(f"job id: found {wrong[0][:40]!r}; allowed: 123 or 123_4")
    return ids
