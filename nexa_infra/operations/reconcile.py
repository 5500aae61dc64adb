"""What is written after a run has ended: its cost, and the copies of its manifests on durable."""

from __future__ import annotations

from collections.abc import Sequence

from nexa_infra.monitoring.costs import cost_of_run
from nexa_infra.operations.context import Context
from nexa_infra.storage.index import open_index
from nexa_infra.storage.manifests import find_cost, find_outcome, mirror_manifests, read_run_manifest, record_cost
from nexa_infra.storage.where import Condition


def settle_costs(context: Context, run_ids: Sequence[str]) -> int:
    """Write the cost of every run that has ended and has none, and mirror its manifests; return how many were written.

    Safe to repeat and from several processes at once: a cost is created once.

    Raises:
        TierMissing, StorageError: durable is not there or cannot be written; the costs are written all the same.
    """
    settled: list[str] = []
    for run_id in run_ids:
        if find_cost(context.project, run_id) is not None:
            continue
        outcome = find_outcome(context.project, run_id)
        if outcome is None:
            continue
        manifest = read_run_manifest(context.project, run_id)
        record_cost(context.project, cost_of_run(manifest, outcome, now=context.clock.now()))
        settled.append(run_id)
    if settled:
        mirror_manifests(context.project, context.require_tiers(), settled)
    return len(settled)


def settle_ended(context: Context) -> int:
    """Settle every run of the project that has ended and has no cost yet; return how many there were."""
    with open_index(context.project) as index:
        rows = index.find_runs([Condition("state", "!=", "none")])
    return settle_costs(context, [row.run_id for row in rows if not row.is_costed])
