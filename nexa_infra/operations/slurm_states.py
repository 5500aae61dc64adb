"""What Slurm says of runs, asked no more often than it changes: a screen that is redrawn must not be its burden."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nexa_contracts.clock import Clock
from nexa_infra.operations.backends import slurm_backend
from nexa_infra.operations.status import LiveState
from nexa_infra.scheduling.slurm.backend import SlurmBackend
from nexa_infra.storage.layout import Project

_SHORTEST_PAUSE_S = 2.0
_LONGEST_PAUSE_S = 30.0
_SLOWER = 1.5


class SlurmStates:
    """One query for all runs that are asked about; the same answer for a while, longer when nothing changes."""

    def __init__(self, project: Project, environment: Mapping[str, str], clock: Clock, *, settles: bool = True) -> None:
        self._project = project
        self._environment = environment
        self._clock = clock
        self._settles = settles
        self._backend: SlurmBackend | None = None
        self._states: dict[str, LiveState] = {}
        self._asked_at_s: float | None = None
        self._pause_s = _SHORTEST_PAUSE_S

    def ask(self, run_ids: Sequence[str]) -> dict[str, LiveState]:
        """Return what is known of these runs; those that were never to be handed to Slurm are left out.

        Raises:
            StorageError: what was handed over cannot be read.
            ExternalError: Slurm is not there, or does not answer.
        """
        now_s = self._clock.monotonic_s()
        is_fresh = self._asked_at_s is not None and now_s - self._asked_at_s < self._pause_s
        if not is_fresh or not self._states.keys() >= set(run_ids):
            self._look(run_ids)
        return {run_id: self._states[run_id] for run_id in run_ids if run_id in self._states}

    def _look(self, run_ids: Sequence[str]) -> None:
        backend = self._backend = self._backend or slurm_backend(self._project, self._environment, clock=self._clock)
        self._asked_at_s = self._clock.monotonic_s()
        found = {
            run_id: LiveState(told.state, attempt=told.attempt, seconds=told.seconds, reason=told.reason)
            for run_id, told in backend.run_states(run_ids, settles=self._settles).items()
        }
        changed = {run_id: state.state for run_id, state in found.items()} != {
            run_id: state.state for run_id, state in self._states.items() if run_id in found
        }
        self._pause_s = _SHORTEST_PAUSE_S if changed else min(_LONGEST_PAUSE_S, self._pause_s * _SLOWER)
        self._states = found
