"""The trials of a study as other programs see them: through Optuna alone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

DEADLINE_S = 120.0


def read_trials(journal: Path) -> list[FrozenTrial]:
    """Return the trials of the one study in a journal once none runs: a job tells it after it has recorded its end."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(journal)))
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        trials = optuna.load_study(study_name=None, storage=storage).get_trials()
        if all(trial.state.is_finished() for trial in trials):
            return trials
        assert time.monotonic() < deadline_s, f"trials still run after {DEADLINE_S:g} s"
        time.sleep(0.05)
