"""A job's own view of itself: which it is, why Slurm ends it, how long it may still run, and starting it again."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass

from nexa_contracts.clock import Clock
from nexa_contracts.errors import ConfigError, ExternalError
from nexa_infra.scheduling.ending import Leave
from nexa_infra.scheduling.fence import Owner
from nexa_infra.scheduling.listening import Heard, Listener
from nexa_infra.scheduling.signals import SignalQueue
from nexa_infra.scheduling.slurm.client import SlurmClient, SlurmUnreachable

_DURATION = re.compile(r"(?:([0-9]+)-)?([0-9]+):([0-9]{2}):([0-9]{2})")
_NEAR_END_S = 180.0
"""A SIGTERM so shortly before the time limit is that of the limit."""
_MARGIN_S = 20.0
"""Of what is left, for the records after the program has left."""
_LONGEST_GRACE_S = 600.0
_AGAIN_S = 5.0
"""Between two questions to a controller that does not answer."""
_GIVEN_UP = frozenset({"PREEMPTED", "PENDING", "REQUEUED"})
_LIVING = frozenset({"RUNNING", "SUSPENDED", "STOPPED", "RESIZING"})


def slurm_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what Slurm says to a job: srun within it needs that, and programs expect it."""
    return {name: text for name, text in environment.items() if name.startswith(("SLURM_", "SLURMD_"))}


@dataclass(frozen=True, slots=True)
class OwnJob:
    """The job or the task of an array that this process is in."""

    cluster: str
    job_id: str
    """As `123`, or `123_4`. In an array the last task's SLURM_JOB_ID is the array's own, which names all tasks."""
    name: str
    task: int
    """0 without an array."""
    restarts: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> OwnJob:
        """Return the job that Slurm's variables describe.

        Raises:
            ConfigError: they are not set: this is no job.
        Source: https://slurm.schedmd.com/sbatch.html (output environment variables).
        """
        array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
        job_id = f"{array}_{task}" if array and task else environment.get("SLURM_JOB_ID", "")
        if re.fullmatch(r"[0-9]+(?:_[0-9]+)?", job_id) is None:
            raise ConfigError(
                f"environment: SLURM_JOB_ID: found {job_id!r}; allowed: the id of a job",
                hint="this program is started by Slurm, through `nexa launch` or `nexa sweep`",
            )
        restarts = environment.get("SLURM_RESTART_COUNT", "0")
        return cls(
            cluster=environment.get("SLURM_CLUSTER_NAME", ""),
            job_id=job_id,
            name=environment.get("SLURM_JOB_NAME", ""),
            task=int(task) if array and task else 0,
            restarts=int(restarts) if restarts.isdecimal() else 0,
        )

    @property
    def owner(self) -> Owner:
        """The same through all its starts."""
        return Owner(cluster=self.cluster, job_id=self.job_id, name=self.name)


@dataclass(frozen=True, slots=True)
class View:
    """What the controller says of a job."""

    state: str
    restarts: int
    is_preempted: bool
    run_s: float
    limit_s: float | None
    """None: without limit, or not known."""

    @property
    def left_s(self) -> float | None:
        """Seconds to the time limit."""
        return None if self.limit_s is None else max(0.0, self.limit_s - self.run_s)


def parse_view(fields: Mapping[str, str]) -> View:
    """Return the view in the fields of `scontrol show job`."""
    restarts = fields.get("Restarts", "")
    return View(
        state=fields.get("JobState", "").partition("+")[0],
        restarts=int(restarts) if restarts.isdecimal() else 0,
        is_preempted="PreemptTime" in fields,
        run_s=_parse_duration_s(fields.get("RunTime", "")) or 0.0,
        limit_s=_parse_duration_s(fields.get("TimeLimit", "")),
    )


def explain_signal(heard: Leave, view: View | None, *, restarts: int) -> Leave:
    """Return why a job of so many restarts was told to leave.

    A job that is ending is COMPLETING, whatever ended it (22.05 shows nothing more): one that is to start again
    counts one restart more already, one that was preempted has a PreemptTime, one at its limit has run that long.
    What is left was cancelled.
    """
    if view is None or heard is Leave.CANCELLED:
        return Leave.PREEMPTED if heard is Leave.ASKED else heard
    if view.is_preempted or view.restarts > restarts or view.state in _GIVEN_UP:
        return Leave.PREEMPTED
    if view.state not in _LIVING:
        return Leave.TIMED_OUT if view.left_s == 0.0 or view.state == "TIMEOUT" else Leave.CANCELLED
    if heard is not Leave.ASKED:
        return heard
    return Leave.TIMED_OUT if view.left_s is not None and view.left_s <= _NEAR_END_S else Leave.PREEMPTED


class SlurmListener(Listener):
    """What Slurm tells a job: a warning before the time limit, SIGTERM when it is preempted, cancelled or at its end.

    None of it reaches the program but a SIGTERM of ours: of the warning torchrun's agent would die.
    """

    def __init__(self, signals: SignalQueue, *, job: OwnJob, client: SlurmClient, clock: Clock) -> None:
        super().__init__(signals)
        self.warnings = {int(signal.SIGUSR1), int(signal.SIGUSR2)}
        self.leaving: Leave | None = None
        """Why this allocation ends; nothing is begun in it any more."""
        self._job = job
        self._client = client
        self._clock = clock
        self._ends_s: float | None = None
        self._has_asked = False

    def has_to_tell(self, leave: Leave) -> bool:
        """Whether the program does not know yet. A job that ends has had its SIGTERM in every process: a second one may
        meet a program that has saved and is about to leave, which it would then kill.
        """
        if leave is not Leave.ASKED:
            return True
        view = self.look()
        return view is None or view.state in _LIVING

    def explain(self, leave: Leave) -> Leave:
        """Return why the program really has to leave, as the controller says; the walltime of a run is its own."""
        if self.leaving is not None:
            self.leaving = explain_signal(self.leaving, self.look(), restarts=self._job.restarts)
            return self.leaving
        return leave

    def choose_grace_s(self, least_s: float) -> float:
        """Return the time to the job's end, less what its records need, where it is left because of that end."""
        if self.leaving is not Leave.TIMED_OUT or self._ends_s is None:
            return least_s
        return max(least_s, min(_LONGEST_GRACE_S, self._ends_s - self._clock.monotonic_s() - _MARGIN_S))

    def left_s(self) -> float | None:
        """Return how long the job may still run; None where nobody says. Asked once."""
        if not self._has_asked:
            self.look()
        return None if self._ends_s is None else self._ends_s - self._clock.monotonic_s()

    def look(self) -> View | None:
        """Return what the controller says of this job now; None when it does not answer."""
        self._has_asked = True
        try:
            view = parse_view(self._client.show_job(self._job.job_id))
        except ExternalError:
            return None
        if view.state in _LIVING and view.left_s is not None:
            self._ends_s = self._clock.monotonic_s() + view.left_s
        return view

    def requeue(self) -> str | None:
        """Let the job start again; return why that cannot be, None when it will.

        A controller that does not answer is asked until this job is ended.
        """
        while True:
            view = self.look()
            if view is not None and view.restarts > self._job.restarts:
                return None  # Slurm does so by itself
            why = explain_signal(self.leaving or Leave.TIMED_OUT, view, restarts=self._job.restarts)
            if why is Leave.CANCELLED:
                self.leaving = why
                return "it was cancelled"
            try:
                self._client.requeue(self._job.job_id)
            except SlurmUnreachable:
                self._clock.sleep(_AGAIN_S)
            except ExternalError as error:
                return error.message
            else:
                return None

    def _understand(self, arrived: frozenset[int]) -> Heard:
        heard = super()._understand(arrived)
        leave = heard.leave
        if leave is None and arrived & self.warnings:
            leave = Leave.TIMED_OUT
        if leave is not None and self.leaving is None:
            self.leaving = leave
        return Heard(leave, (), heard.has_child_ended)


def _parse_duration_s(text: str) -> float | None:
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
