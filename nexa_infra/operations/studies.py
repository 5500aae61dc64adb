"""The studies of sweeps: told of runs that could not do so themselves, and shown by Optuna's own dashboard."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

from nexa_contracts.errors import NexaError
from nexa_infra.operations.context import Context
from nexa_infra.operations.progress import read_object
from nexa_infra.scheduling.adaptive.telling import tell_sweep

logger = logging.getLogger(__name__)


def tell_studies(context: Context, run_ids: Sequence[str]) -> None:
    """Tell the studies of runs that have ended: their jobs may have died before they could, also after an outcome.

    A study that cannot be told now is named in the log: the next trial of its sweep tells it.
    """
    outcomes = [read_object(context.project.outcome(run_id)) for run_id in run_ids]
    sweeps = {outcome.get("sweep_id") for outcome in outcomes}
    for sweep_id in sorted(text for text in sweeps if isinstance(text, str)):
        try:
            study = context.tiers.study(sweep_id)
            if study.exists():
                tell_sweep(study, context.project, sweep_id)
        except NexaError as error:
            logger.warning("study is not told sweep_id=%s: %s", sweep_id, error)


def render_dashboard(study: Path) -> str:
    """Return the command that shows the trials of a study in a browser.

    With the whole path: the lock that its programs make beside the journal names the journal by the same words.
    """
    return f"optuna-dashboard {shlex.quote(str(study))}"
