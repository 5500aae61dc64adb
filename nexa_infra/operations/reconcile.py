"""What is written after a run has ended: its cost, and the copies of its manifests on durable."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence

from nexa_contracts.cost import CostManifest
from nexa_contracts.errors import ConfigError, StorageError
from nexa_infra.monitoring.costs import cost_of_run
from nexa_infra.operations.context import Context
from nexa_infra.operations.studies import tell_studies
from nexa_infra.operations.unsubmitted import settle_unsubmitted
from nexa_infra.storage.index import open_index
from nexa_infra.storage.manifests import find_outcome, mirror_manifests, read_run_manifest, record_costs
from nexa_infra.storage.where import Condition

logger = logging.getLogger(__name__)


def settle_costs(context: Context, run_ids: Sequence[str]) -> int:
    """Write the cost of every run that has ended and has none, and mirror its manifests; return how many were written.

    Runs that will never be handed over, because their launch was cut off, are ended on record first.
    Safe to repeat and from several processes at once: a cost is created once. A copy that durable did not take the last
    time is made now.

    Raises:
        TierMissing, StorageError: durable is not there or cannot be written; the costs are written all the same.
        ConfigError: the records of a run cannot be read; the others are settled.
    """
    _settle_unsubmitted(context, run_ids)
    costed = [run_id for run_id in run_ids if context.project.cost(run_id).exists()]
    uncosted = sorted(set(run_ids).difference(costed))
    unreadable: list[ConfigError] = []
    count = _mirror(context, _record_costs(context, uncosted, unreadable), costed)
    if unreadable:
        raise unreadable[0]
    return count


def try_to_settle(context: Context, run_ids: Sequence[str]) -> str | None:
    """Settle the costs, for commands that only look; return why that was not possible, None when it was."""
    try:
        settle_costs(context, run_ids)
    except (StorageError, ConfigError) as error:
        return str(error)
    return None


def settle_ended(context: Context) -> int:
    """Settle every run of the project that has ended and has no cost yet; return how many there were.

    A run whose records cannot be read is named in the log, and the others are settled.

    Raises: as `settle_costs`.
    """
    with open_index(context.project) as index:
        waiting = index.find_runs([Condition("state", "=", "none"), Condition("sweep", "=", "none")])
        if _settle_unsubmitted(context, [row.run_id for row in waiting]):
            index.refresh()
        rows = index.find_runs([Condition("state", "!=", "none")])
    costed = [row.run_id for row in rows if row.is_costed]
    uncosted = [row.run_id for row in rows if not row.is_costed]
    unreadable: list[ConfigError] = []
    count = _mirror(context, _record_costs(context, uncosted, unreadable), costed)
    for error in unreadable:
        logger.warning("cost is not settled: %s", error)
    return count


def _settle_unsubmitted(context: Context, run_ids: Sequence[str]) -> tuple[str, ...]:
    return settle_unsubmitted(context.project, run_ids, environment=context.environment, clock=context.clock)


def _mirror(context: Context, settled: Sequence[str], costed: Sequence[str]) -> int:
    tell_studies(context, settled)
    lacking = [*settled, *_without_copy(context, costed)]
    if lacking:
        mirror_manifests(context.project, context.require_tiers(), lacking)
    return len(settled)


def _record_costs(context: Context, run_ids: Sequence[str], unreadable: list[ConfigError]) -> tuple[str, ...]:
    def find() -> Iterator[CostManifest]:
        for run_id in run_ids:
            try:
                cost = _find_cost(context, run_id)
            except ConfigError as error:
                unreadable.append(error)
            else:
                if cost is not None:
                    yield cost

    return record_costs(context.project, find())


def _find_cost(context: Context, run_id: str) -> CostManifest | None:
    outcome = find_outcome(context.project, run_id)
    if outcome is None:
        return None
    return cost_of_run(read_run_manifest(context.project, run_id), outcome, now=context.clock.now())


def _without_copy(context: Context, run_ids: Sequence[str]) -> Iterator[str]:
    try:
        # One listing and not a question a run: there may be 100,000, and durable may be far away.
        copies = set(os.listdir(context.tiers.durable_manifests)) if run_ids else set()  # noqa: PTH208
    except FileNotFoundError:
        return  # durable is not mounted: what was settled earlier can wait for it
    yield from (run_id for run_id in run_ids if context.project.cost(run_id).name not in copies)
