"""Telling the studies of sweeps of runs that could not do so themselves."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from nexa_contracts.errors import NexaError
from nexa_contracts.states import JobState
from nexa_infra.operations.context import Context
from nexa_infra.operations.progress import read_object
from nexa_infra.scheduling.adaptive.telling import tell_sweep

logger = logging.getLogger(__name__)


def tell_studies(context: Context, run_ids: Sequence[str]) -> None:
    """Tell the studies of those among these runs that ended badly: their jobs may have died before they could.

    A study that cannot be told now is named in the log: the next trial of its sweep tells it.
    """
    outcomes = [read_object(context.project.outcome(run_id)) for run_id in run_ids]
    failed = {outcome.get("sweep_id") for outcome in outcomes if outcome.get("state") != JobState.SUCCEEDED}
    for sweep_id in sorted(text for text in failed if isinstance(text, str)):
        try:
            study = context.tiers.study(sweep_id)
            if study.exists():
                tell_sweep(study, context.project, sweep_id)
        except NexaError as error:
            logger.warning("study is not told sweep_id=%s: %s", sweep_id, error)
