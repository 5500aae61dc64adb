"""A job's own view of itself: which it is, why Slurm ends it, how long it may still run, and starting it again."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nexa_contracts.clock import Clock
from nexa_contracts.errors import ConfigError, ExternalError
from nexa_infra.scheduling.ending import Leave
from nexa_infra.scheduling.fence import Owner
from nexa_infra.scheduling.listening import Heard, Listener
from nexa_infra.scheduling.signals import SignalQueue
from nexa_infra.scheduling.slurm.client import SlurmUnreachable
from nexa_infra.scheduling.slurm.nodes import NodeClient
from nexa_infra.scheduling.slurm.view import LIVING, NEAR_END_S, QUEUED, View, explain_signal, parse_view

_EARLY_S = 60.0
"""Slurm sends its warning up to half a minute early or late."""
_LATE_S = 40.0
_UNWARNED_S = 10.0
_MARGIN_S = 20.0
"""Of what is left, for the records after the program has left."""
_LONGEST_GRACE_S = 600.0
_AGAIN_S = 5.0
"""Between two questions to a controller that does not answer."""
_LOOK_S = 3.0
"""Between two looks for a wish to end one run of several: each costs the shared tier a question."""
_WARNING = re.compile(r"(USR1|USR2|TERM)@([0-9]{1,5})")


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
    number: str = ""
    """The id of this very job, SLURM_JOB_ID; for a task of an array beside its `123_4`."""
    host: str = ""
    """The node that this is on."""
    nodelist: str = ""
    """All nodes of it, as Slurm lists them."""

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
            number=environment.get("SLURM_JOB_ID", ""),
            host=environment.get("SLURMD_NODENAME", ""),
            nodelist=environment.get("SLURM_JOB_NODELIST", ""),
        )

    @property
    def owner(self) -> Owner:
        """The same through all its starts."""
        return Owner(cluster=self.cluster, job_id=self.job_id, name=self.name)


@dataclass(frozen=True, slots=True)
class LimitWarning:
    """What Slurm sends before a job's time limit; the site chooses it."""

    number: signal.Signals
    lead_s: float

    @property
    def near_end_s(self) -> float:
        """How long before the time limit a SIGTERM is that of the limit."""
        return max(NEAR_END_S, self.lead_s + _EARLY_S) if self.number is signal.SIGTERM else NEAR_END_S

    def reserve_s(self, walltime_s: float) -> float:
        """How long before its end a job leaves that heard no warning: it may have come while the entry started."""
        return min(max(_UNWARNED_S, self.lead_s - _LATE_S), walltime_s / 4)

    @classmethod
    def parse(cls, text: str) -> LimitWarning:
        """Return the warning in a text like `USR1@120`.

        Raises:
            ConfigError: it is none.
        """
        match = _WARNING.fullmatch(text)
        if match is None:
            raise ConfigError(f"--warning: found {text!r}; allowed: USR1, USR2 or TERM, @ and seconds")
        return cls(signal.Signals[f"SIG{match[1]}"], float(match[2]))


class SlurmListener(Listener):
    """What Slurm tells a job: a warning before the time limit, SIGTERM when it is preempted, cancelled or at its end.

    None of it reaches the program but a SIGTERM of ours. Of USR1 and USR2 the one that is no warning is the program's.
    """

    def __init__(
        self, signals: SignalQueue, *, job: OwnJob, client: NodeClient, clock: Clock, warning: LimitWarning
    ) -> None:
        super().__init__(signals)
        self.leaving: Leave | None = None
        """Why this allocation ends; nothing is begun in it any more."""
        self.is_row_cancelled = False
        """Whether somebody was seen to want the end of the run that is attended to; the others of this job go on."""
        self.failed_nodes: tuple[str, ...] = ()
        """Nodes of this job that went down, as far as Slurm says which."""
        self._wish: Path | None = None
        self._looked_s = 0.0
        self.warning = warning
        self._job = job
        self._client = client
        self._clock = clock
        self._ends_s: float | None = None
        self._has_asked = False

    def attend(self, wish: Path | None) -> None:
        """Turn to the next run; `wish` is the file by which somebody asks for its end and not for that of the others.

        None: it has the job for itself, and is ended by ending that.
        """
        self._wish, self.is_row_cancelled = wish, False

    def look_for_wish(self) -> bool:
        """Whether somebody wants the end of the run that is attended to, as its folder says now."""
        self._looked_s = self._clock.monotonic_s()
        self.is_row_cancelled = self._wish is not None and self._wish.exists()
        return self.is_row_cancelled

    def listen(self, timeout_s: float) -> Heard:
        """Return what arrived, a wish to end this run included; that is told once."""
        if self._wish is None or self.is_row_cancelled:
            return super().listen(timeout_s)
        until_s = self._clock.monotonic_s() + timeout_s
        while True:
            now_s = self._clock.monotonic_s()
            if now_s - self._looked_s >= _LOOK_S and self.look_for_wish():
                return Heard(Leave.CANCELLED)
            next_s = min(until_s, self._looked_s + _LOOK_S)
            heard = super().listen(next_s - now_s)
            if heard != Heard() or next_s == until_s:
                return heard

    def has_to_tell(self, leave: Leave) -> bool:
        """Whether the program does not know yet. A job that ends has had its SIGTERM in every process: a second one may
        meet a program that has saved and is about to leave, which it would then kill.
        """
        if leave is not Leave.ASKED:
            return True
        view = self.look()
        return view is None or view.state in LIVING

    def explain(self, leave: Leave) -> Leave:
        """Return why the program really has to leave, as the controller says; the walltime of a run is its own."""
        if self.leaving is not None:
            self.leaving = self._explain(self.leaving, self.look())
            return self.leaving
        return leave

    def choose_grace_s(self, least_s: float) -> float:
        """Return the time to the job's end, less what its records need, where it is left because of that end.

        It may be shorter than asked for: a job that is killed at its limit cannot put itself into the queue again.
        """
        left_s = self.left_s() or 0.0
        if self.leaving not in (None, Leave.TIMED_OUT) or left_s <= 0:
            return least_s
        most_s = least_s if self.leaving is None else _LONGEST_GRACE_S
        return min(most_s, max(left_s - _MARGIN_S, left_s / 2))

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
        if view.state in LIVING and view.left_s is not None:
            self._ends_s = self._clock.monotonic_s() + view.left_s
        return view

    def is_meant(self) -> bool:
        """Whether Slurm means this start of the job; yes as long as it does not say otherwise.

        A controller that was killed has lost its newest state, and starts a job again that it has started already.
        """
        view = self.look()
        return view is None or view.is_of(self._job.number, self._job.host)

    def requeue(self) -> str | None:
        """Let the job start again; return why that cannot be, None when it will.

        A controller that does not answer is asked until this job is ended.
        """
        while True:
            view = self.look()
            if view is not None and (view.restarts > self._job.restarts or view.state in QUEUED):
                return None  # Slurm does so by itself, or a controller that was killed has forgotten that it runs
            why = self._explain(self.leaving or Leave.TIMED_OUT, view)
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
        if leave is None and self.warning.number in arrived:
            leave = Leave.TIMED_OUT
        if leave is not None and self.leaving is None:
            self.leaving = leave
        passed_on = tuple(number for number in heard.passed_on if number != self.warning.number)
        return Heard(leave, passed_on, heard.has_child_ended)

    def _explain(self, heard: Leave, view: View | None) -> Leave:
        why = explain_signal(heard, view, restarts=self._job.restarts, near_end_s=self.warning.near_end_s)
        if view is None or view.state in LIVING or view.is_preempted or heard is why:
            return why
        if why is Leave.TIMED_OUT or re.search(r"[,\[]", self._job.nodelist) is None:
            return why  # of a single node nobody would be left to ask
        try:
            self.failed_nodes = self._client.list_down(self._job.nodelist)
        except ExternalError:
            return why
        return Leave.NODE_FAILED if self.failed_nodes else why
