"""Watching a trial: what its program says of itself goes to the study, whose pruner may judge that it falls behind."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from nexa_contracts.errors import StorageError
from nexa_infra.scheduling.adaptive.study import study_errors
from nexa_infra.storage.metrics import read_new_records, read_number, read_whole
from nexa_infra.storage.run_dir import RunDir

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

    from nexa_contracts.sweep import Objective, SweepConfig

logger = logging.getLogger(__name__)

_PAUSE_S = 1.0
_SPACING = 1.1
"""Values are reported at steps that grow by a tenth: about 130 of a million. All trials report at the same ones, if
their programs write at the same steps, which is what pruners compare. Each report is a line that every job reads."""


class TrialWatch:
    """Reports in a thread of its own while it is entered: the journal may keep it waiting, and signals must not."""

    def __init__(self, trial: Trial, found: FrozenTrial, *, run_dir: RunDir, sweep: SweepConfig, study: Path) -> None:
        self.pruned_at_step: int | None = None
        """The step from which it is not worth going on; None while it is."""
        self._trial = trial
        self._run_dir = run_dir
        self._study = study
        self._values = ValueReader(sweep.objective)
        self._schedule = Schedule(after=found.last_step)
        self._offset = 0
        self._is_over = Event()
        self._thread = Thread(target=self._run, name="pruning") if sweep.pruner != "none" else None

    def __enter__(self) -> Self:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not left to itself: a process that ends while it holds the journal's lock keeps everyone waiting.
        self._is_over.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            with study_errors(self._study):
                is_over = False
                while not is_over and self.pruned_at_step is None:
                    is_over = self._is_over.wait(_PAUSE_S)
                    self._look()  # once more after its end: the others are compared with what it said
        except StorageError as error:
            logger.warning("trial is not watched any more run_id=%s: %s", self._run_dir.path.name, error)

    def _look(self) -> None:
        while True:
            before = self._offset
            records, self._offset = read_new_records(self._run_dir.metrics, offset=before)
            for record in records:
                step, value = read_whole(record.get("step")), self._values.read(record)
                if step is None or value is None or not self._schedule.is_due(step):
                    continue
                self._trial.report(value, step)
                if self._trial.should_prune():
                    self.pruned_at_step = step
                    return
            if self._offset == before:
                return


class ValueReader:
    """Reads the value that a trial is judged by from lines of metrics: the objective, or `loss` until it is said.

    All trials of a sweep run the same program, so at the same step they say the same.
    """

    def __init__(self, objective: Objective) -> None:
        self._metric = objective.metric
        self._falls_back = objective.direction == "minimize"
        """Less loss is better, which tells nothing of an objective of which more is."""

    def read(self, record: Mapping[str, Any]) -> float | None:
        """Return the value in a line; None when it has none."""
        value = read_number(record.get(self._metric))
        if value is not None:
            self._falls_back = False
        elif self._falls_back:
            value = read_number(record.get("loss"))
        return value


class Schedule:
    """The steps at which values are reported."""

    def __init__(self, *, after: int | None) -> None:
        """Begin after a step that was reported already; None: none was."""
        self._due = 0 if after is None else _next(after)

    def is_due(self, step: int) -> bool:
        """Whether the value at this step is to be reported; then the next one is due later."""
        if step < self._due:
            return False
        self._due = _next(step)
        return True


def _next(step: int) -> int:
    return max(step + 1, math.ceil(step * _SPACING))
