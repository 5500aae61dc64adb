"""Costs are written after the end, and everything known of a run is copied to durable, once it is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nexa_contracts.errors import TierMissing
from nexa_infra.operations.context import open_context
from nexa_infra.operations.reconcile import settle_costs, settle_ended
from nexa_infra.storage.manifests import find_cost, record_manifest, record_outcome
from nexa_infra.storage.tiers import init_tiers
from nexa_infra.testing.clock import FakeClock
from tests.storage.manifests_made import make_manifest, make_outcome, run_id_of


@pytest.mark.parametrize("everything", [False, True])
def test_a_copy_that_durable_did_not_take_is_made_when_it_is_back(tmp_path: Path, everything: bool) -> None:
    (tmp_path / "nexa.yaml").write_text("tiers: {durable: disk}\n")
    context = open_context(tmp_path, clock=FakeClock(), environment=dict(os.environ))
    record_manifest(context.project, make_manifest())
    record_outcome(context.project, make_outcome())
    run_id = run_id_of(0)
    with pytest.raises(TierMissing):
        settle_costs(context, [run_id])
    assert find_cost(context.project, run_id) is not None
    assert settle_ended(context) == 0  # nothing new, and durable still away: no reason to fail
    init_tiers(context.tiers, clock=context.clock)
    assert (settle_ended(context) if everything else settle_costs(context, [run_id])) == 0
    copies = {path.name for path in context.tiers.durable_manifests.glob("*run_*")}
    assert copies == {f"{run_id}.json", f"outcome_{run_id}.json", f"cost_{run_id}.json"}


def test_one_unreadable_manifest_does_not_keep_the_other_costs_from_being_settled(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context = open_context(tmp_path, clock=FakeClock(), environment=dict(os.environ))
    for number in range(2):
        record_manifest(context.project, make_manifest(number))
        record_outcome(context.project, make_outcome(number))
    path = context.project.manifest(run_id_of(0))
    path.write_text(path.read_text().replace('"project":', '"unknown_field": 1, "project":'))
    assert settle_ended(context) == 1
    assert find_cost(context.project, run_id_of(1)) is not None
    assert str(path) in caplog.text
