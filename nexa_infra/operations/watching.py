"""Looking after a project's runs until all have ended: what was left is handed over, silent ends are settled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from nexa_contracts.errors import ConfigError, ExternalError, StorageError
from nexa_infra.operations.backends import site_slurm_backend, site_slurm_client
from nexa_infra.operations.context import Context
from nexa_infra.operations.handing_over import hand_over_rest
from nexa_infra.operations.live import live_states, sort_by_backend
from nexa_infra.operations.reconcile import settle_ended
from nexa_infra.operations.status import NOT_SUBMITTED
from nexa_infra.operations.sweep_lock import is_held
from nexa_infra.operations.unasked import find_unasked
from nexa_infra.scheduling.slurm.held import Releaser
from nexa_infra.scheduling.slurm.settling import SlurmSettler
from nexa_infra.storage.index import open_index
from nexa_infra.storage.run_rows import RunRow
from nexa_infra.storage.where import Condition


@dataclass(frozen=True, slots=True)
class Looked:
    """What one look found and did."""

    counts: dict[str, int]
    """Runs that have not ended, by state."""
    handed_over: int
    """Runs that waited for room or whose answer was lost, and that Slurm holds now."""
    costed: int
    """Runs whose cost was written."""
    held: int
    """Jobs that Slurm held because a node could not start them: let go, or ended after some times."""
    troubles: tuple[str, ...]
    """What could not be done now, and why."""
    written: Mapping[str, int] = field(default_factory=dict)
    """How many runs of a sweep were only written: nobody was asked to take them, and they are not looked after."""

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to look after."""
        return not self.counts and not self.held and not self.troubles


class Keeper:
    """Looks after the runs of a project, or of some submissions."""

    def __init__(self, context: Context, submissions: Collection[str] | None = None) -> None:
        """`submissions` are ids of runs and sweeps; None: all of the project."""
        self._context = context
        self._submissions = None if submissions is None else frozenset(submissions)
        # A question each time: between two looks of ours an answer is old.
        self._troubles: dict[str, None] = {}
        self._on_slurm: dict[str, None] = {}

    def look(self) -> Looked:
        """Look once, and do what can be done now; safe beside any number of others who do."""
        self._troubles = {}
        rows = self._list_open()
        handed_over = self._hand_over(rows)
        states = self._ask([row.run_id for row in rows])
        written = self._find_written([row.run_id for row in rows if row.run_id not in states])
        held = self._release_held([row for row in rows if row.run_id not in written])
        costed = self._settle_costs()
        open_ids = [row.run_id for row in rows if not self._context.project.outcome(row.run_id).exists()]
        counts = Counter(states.get(run_id, NOT_SUBMITTED) for run_id in open_ids if run_id not in written)
        return Looked(
            counts=dict(counts.most_common()),
            handed_over=handed_over,
            costed=costed,
            held=held,
            troubles=tuple(self._troubles),
            written=dict(Counter(written.values())),
        )

    def _list_open(self) -> list[RunRow]:
        with open_index(self._context.project) as index:
            rows = index.find_runs([Condition("state", "=", "none")])
        wanted = self._submissions
        return [row for row in rows if wanted is None or row.run_id in wanted or row.sweep_id in wanted]

    def _hand_over(self, rows: list[RunRow]) -> int:
        ours = [row for row in rows if row.backend == "slurm"]
        handed_over = 0
        for submission in dict.fromkeys(row.sweep_id or row.run_id for row in ours):
            try:
                handed_over += hand_over_rest(self._context, [submission])
            except (ExternalError, StorageError, ConfigError) as error:
                self._troubles[str(error)] = None
        return handed_over

    def _ask(self, run_ids: list[str]) -> dict[str, str]:
        project, environment = self._context.project, self._context.environment
        try:
            ours = sort_by_backend(project, run_ids).get("slurm", [])
            if ours:
                site_slurm_backend(self._context).pass_on_cancels(ours)
            ask = live_states(project, environment=environment, clock=self._context.clock)
            return {run_id: str(told.state) for run_id, told in ask(run_ids).items()}
        except (ExternalError, StorageError) as error:
            self._troubles[str(error)] = None
            return dict.fromkeys(run_ids, "UNKNOWN")

    def _find_written(self, run_ids: list[str]) -> dict[str, str]:
        # What is submitted at this moment is still to be looked after.
        unasked = find_unasked(self._context.project, run_ids)
        busy = {sweep_id for sweep_id in set(unasked.values()) if is_held(self._context, sweep_id)}
        return {run_id: sweep_id for run_id, sweep_id in unasked.items() if sweep_id not in busy}

    def _release_held(self, rows: list[RunRow]) -> int:
        # Those whose runs have all ended meanwhile too: a job of theirs may be back in the queue.
        self._on_slurm |= dict.fromkeys(row.sweep_id or row.run_id for row in rows if row.backend == "slurm")
        if not self._on_slurm:
            return 0
        environment, clock = self._context.environment, self._context.clock
        settler = SlurmSettler(environment=environment, clock=clock, start_again=lambda _: False)
        releaser = Releaser(self._context.project.runs.resolve(), site_slurm_client(self._context), settler.settle)
        try:
            return releaser.release(list(self._on_slurm))
        except (ExternalError, StorageError) as error:
            self._troubles[str(error)] = None
            return 0

    def _settle_costs(self) -> int:
        try:
            return settle_ended(self._context)
        except (StorageError, ConfigError) as error:
            self._troubles[str(error)] = None
            return 0
