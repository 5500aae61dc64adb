"""Slurm's commands at the seam of the runner: a cluster in memory, whose jobs run when a test says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nexa_contracts.errors import CommandTimedOut
from nexa_infra.process import Call, CommandRunner, Completed, SystemRunner
from nexa_infra.scheduling.slurm.windows import parse_array

_ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"})
_LONGEST_S = 60.0
_DOWN = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"
_NODES = "n1"


@dataclass(slots=True)
class FakeTask:
    """A job, or a task of an array."""

    state: str = "PENDING"
    exit_code: int = 0
    reason: str = "None"
    restarts: int = 0


@dataclass(slots=True)
class FakeJob:
    """What one call of sbatch made."""

    job_id: int
    options: dict[str, str]
    script: Path
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    tasks: dict[int | None, FakeTask] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of all its tasks."""
        return self.options["job-name"]


class FakeSlurm(CommandRunner):
    """Answers sbatch, squeue, scancel, scontrol, sacct and sinfo as a cluster without accounting does.

    A test may take the controller down, let answers get lost, refuse what comes, end jobs and make it forget them.
    """

    def __init__(self) -> None:
        self.jobs: dict[int, FakeJob] = {}
        self.calls: list[Call] = []
        self.is_down = False
        self.lose_answers = 0
        """So many calls of sbatch are carried out and not answered."""
        self.refusal: str | None = None
        """What sbatch says instead of taking a job."""
        self.takes: int | None = None
        """So many jobs more; after them it refuses, or loses the question where `refusal` is None."""
        self.accounting: list[str] | None = None
        """What sacct prints, a line a job; None: this cluster has no accounting."""
        self.nodes: tuple[str, ...] = (_NODES,)
        self.cluster = "fake"
        self.next_id = 1
        self.on_submit: Callable[[Call], None] = lambda _: None
        """Told of each call of sbatch before anything is done; it may raise."""
        self.after_submit: Callable[[Call], None] = lambda _: None
        """Told of each call of sbatch that took a job, before it is answered; it may raise."""

    @staticmethod
    def timed_out(call: Call) -> CommandTimedOut:
        """Return what a runner raises when a command does not end in its time."""
        return CommandTimedOut(f"{call.argv[0]}: still running after {call.timeout_s:g} s; it was ended")

    def count(self, program: str) -> int:
        """Return how often a program was called."""
        return sum(call.argv[0] == program for call in self.calls)

    def end(self, job_id: int, state: str, *, exit_code: int = 0) -> None:
        """End every task of a job that has not ended."""
        for task in self.jobs[job_id].tasks.values():
            if task.state not in _ENDED:
                task.state, task.exit_code = state, exit_code

    def start(self, job_id: int) -> None:
        """Let a job be seen running; nothing runs."""
        for task in self.jobs[job_id].tasks.values():
            task.state = "RUNNING"

    def forget(self, job_id: int) -> None:
        """Know a job no more, as minutes after its end or after a crash of the controller."""
        del self.jobs[job_id]

    def run_waiting(self) -> None:
        """Run every task that waits, one after another, as a node would: its script, in an environment of its own."""
        for job in list(self.jobs.values()):
            for number, task in job.tasks.items():
                if task.state == "PENDING":
                    task.exit_code = self._run_task(job, number)
                    task.state = "FAILED" if task.exit_code else "COMPLETED"

    def _run(self, call: Call) -> Completed:
        self.calls.append(call)
        answers: dict[str, Callable[[Call], Completed]] = {
            "sbatch": self._sbatch,
            "squeue": self._squeue,
            "scancel": self._scancel,
            "scontrol": self._scontrol,
            "sacct": self._sacct,
            "sinfo": self._sinfo,
        }
        answer = answers[call.argv[0]]
        if self.is_down and call.argv[0] != "sacct":
            return Completed(1, stderr=_DOWN, argv=call.argv)
        completed = answer(call)
        return Completed(completed.returncode, completed.stdout, completed.stderr, call.argv, completed.stdout.encode())

    def _sbatch(self, call: Call) -> Completed:
        self.on_submit(call)
        words = [word for word in call.argv[1:] if word.startswith("--")]
        options = {name: value for name, _, value in (word[2:].partition("=") for word in words)}
        script, *arguments = call.argv[1 + len(words) :]
        if self.takes == 0:
            if self.refusal is None:
                raise self.timed_out(call)
            return Completed(1, stderr=f"sbatch: error: Batch job submission failed: {self.refusal}\n")
        if self.takes is not None:
            self.takes -= 1
        elif self.refusal is not None:
            return Completed(1, stderr=f"sbatch: error: Batch job submission failed: {self.refusal}\n")
        folder = call.cwd or Path.cwd()
        job = FakeJob(self.next_id, options, folder / script, tuple(arguments), dict(call.env or {}))
        numbers: Iterable[int | None] = parse_array(options["array"]) if "array" in options else (None,)
        job.tasks = {number: FakeTask() for number in numbers}
        self.jobs[job.job_id] = job
        self.next_id += max(1, len(job.tasks))
        self.after_submit(call)
        if self.lose_answers:
            self.lose_answers -= 1
            raise self.timed_out(call)
        return Completed(0, f"{job.job_id}\n")

    def _squeue(self, call: Call) -> Completed:
        names = _names(call.argv)
        lines: list[str] = []
        for job in self.jobs.values():
            if names is not None and job.name not in names:
                continue
            for number, task in job.tasks.items():
                waits = task.state == "PENDING"
                fields = (
                    job.job_id if waits else job.job_id + (number or 0),
                    job.job_id,
                    "N/A" if number is None else number,
                    task.state,
                    task.exit_code << 8,
                    task.restarts,
                    "" if waits else _NODES,
                    task.reason,
                    job.name,
                )
                lines.append("".join(f"{word}|" for word in fields))
        return Completed(0, "".join(f"{line}\n" for line in lines))

    def _sinfo(self, call: Call) -> Completed:
        (form,) = (word.removeprefix("--format=") for word in call.argv if word.startswith("--format="))
        is_each = "--Node" in call.argv
        count = 1 if is_each else len(self.nodes)
        values = {"%P": "main*", "%D": str(count), "%c": "8", "%m": "65536", "%l": "infinite", "%G": "(null)"}
        for name, text in values.items():
            form = form.replace(name, text)
        return Completed(0, "".join(f"{form.replace('%N', node)}\n" for node in self.nodes[::count]))

    def _sacct(self, call: Call) -> Completed:
        if self.accounting is None:
            return Completed(1, stderr="Slurm accounting storage is disabled\n", argv=call.argv)
        return Completed(0, "".join(f"{line}\n" for line in self.accounting))

    def _scancel(self, call: Call) -> Completed:
        names = _names(call.argv)
        for word in call.argv[1:]:
            if word.startswith("--"):
                continue
            number, _, task_id = word.partition("_")
            job = self.jobs.get(int(number))
            if job is None or (names is not None and job.name not in names):
                continue
            for task in [int(task_id)] if task_id else list(job.tasks):
                self._cancel(job, task)
        return Completed(0)

    def _cancel(self, job: FakeJob, number: int | None) -> None:
        task = job.tasks.get(number)
        if task is None or task.state in _ENDED:
            return
        if task.state == "PENDING" and number is not None:
            del job.tasks[number]  # of a task that had not started Slurm keeps no record
        else:
            task.state = "CANCELLED"

    def _scontrol(self, call: Call) -> Completed:
        if call.argv[1:] == ("show", "config"):
            limits = "MaxArraySize = 1001\nMaxJobCount = 10000\nMinJobAge = 300 sec\n"
            return Completed(0, f"ClusterName = {self.cluster}\n{limits}")
        verb, name = call.argv[-2:] if call.argv[-2] != "job" else ("show", call.argv[-1])
        number, _, task_id = name.partition("_")
        job = self.jobs.get(int(number))
        task = None if job is None else job.tasks.get(int(task_id) if task_id else None)
        if job is None or task is None:
            return Completed(1, stderr="slurm_load_jobs error: Invalid job id specified\n")
        if verb == "show":
            said = f"JobId={int(number) + int(task_id or 0)} JobName={job.name} JobState={task.state}"
            return Completed(0, f"{said} Restarts={task.restarts}\n")
        if verb == "release" and task.state == "PENDING":
            task.reason = "None"
            return Completed(0)
        if verb != "requeue" or task.state == "PENDING" or "no-requeue" in job.options:
            return Completed(1, stderr="Requested operation is presently disabled\n")
        task.state, task.exit_code, task.restarts = "PENDING", 0, task.restarts + 1
        return Completed(0)

    def _run_task(self, job: FakeJob, number: int | None) -> int:
        is_all = job.options["export"] == "ALL"
        passed = dict(job.environment) if is_all else {}
        told = {
            "SLURM_JOB_ID": str(job.job_id + (number or 0)),
            "SLURM_JOB_NAME": job.name,
            "SLURM_CLUSTER_NAME": self.cluster,
        }
        if number is not None:
            told |= {"SLURM_ARRAY_JOB_ID": str(job.job_id), "SLURM_ARRAY_TASK_ID": str(number)}
        said = job.script.parent / job.options["output"].replace("%A", str(job.job_id)).replace("%a", str(number))
        completed = SystemRunner().run(
            ["sh", str(job.script), *job.arguments],
            timeout_s=_LONGEST_S,
            cwd=job.script.parent,
            # No configuration: what runs inside must not find another cluster that this machine belongs to.
            env={**passed, **told, "SLURM_CONF": str(job.script.parent / "no-slurm.conf")},
        )
        Path(str(said).replace("%j", str(job.job_id))).write_text(completed.stdout + completed.stderr)
        return completed.returncode


def _names(argv: tuple[str, ...]) -> frozenset[str] | None:
    found = [word.removeprefix("--name=") for word in argv if word.startswith("--name=")]
    return frozenset(found[0].split(",")) if found else None
