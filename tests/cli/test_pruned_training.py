"""A real training that falls behind: it saves, leaves, and is told everywhere as what it is."""

from __future__ import annotations

import json

from nexa_contracts.exit_codes import WorkExit
from nexa_contracts.states import JobState
from nexa_infra.storage.layout import Tiers
from nexa_infra.storage.manifests import find_cost, read_attempts, read_outcome
from nexa_infra.storage.seal import verify_seal
from tests.cli.cli_process import Cli
from tests.scheduling.adaptive.trials import read_trials

SWEEP = """\
name: rates
run:
  resources: {walltime: 10m, memory: 1GiB}
  model: {scratch: {vocab_size: 300, hidden_size: 16, num_layers: 1, num_heads: 2}}
  data: {dataset: python_stdlib, block_size: 32, max_rows: 20, eval_fraction: 0}
  training: {max_steps: 1500, batch_size: 4, log_every: 10, lr_scheduler: constant}
objective: {metric: loss}
pruner: asha
max_parallel: 1
prune_after_steps: 20
axes:
  training.learning_rate: {values: [1.0e-2, 1.0e-9]}
"""


def test_a_training_that_falls_behind_saves_and_leaves(cli: Cli) -> None:
    cli.write("rates.yaml", SWEEP)
    view = json.loads(cli.ok("sweep", "rates.yaml", "--json", "--wait", timeout_s=300))
    assert view["counts"] == {"SUCCEEDED": 1, "PRUNED": 1}
    whole, pruned = (read_outcome(cli.project, run["run_id"]) for run in view["runs"])
    (attempt,) = read_attempts(cli.project, pruned.run_id)
    assert (attempt.state, attempt.exit_code, attempt.pruned_at_step) == (
        JobState.SUCCEEDED, WorkExit.SAVED_AND_LEFT, 20,
    )  # fmt: skip
    assert (whole.pruned_at_step, pruned.pruned_at_step, pruned.failure) == (None, 20, None)
    storage = cli.project.root / "storage"
    tiers = Tiers(storage / "scratch", storage / "durable", storage / "shared")
    (saved,) = tiers.checkpoints_temp(pruned.run_id).glob("checkpoint-*")
    seal = verify_seal(saved)
    assert seal.step == pruned.steps
    assert seal.step is not None
    assert 20 <= seal.step < 1500
    assert tiers.checkpoint(whole.run_id).is_dir()
    assert not tiers.checkpoint(pruned.run_id).exists()  # what nobody wants more of is no final model
    costs = [find_cost(cli.project, outcome.run_id) for outcome in (whole, pruned)]
    assert all(cost is not None and cost.total for cost in costs)
    trials = read_trials(tiers.study(view["submission"]))
    assert [(trial.state.name, trial.user_attrs["run_id"]) for trial in trials] == [
        ("COMPLETE", whole.run_id), ("PRUNED", pruned.run_id),
    ]  # fmt: skip
    assert trials[0].value == whole.metrics["loss"]
    assert list(trials[1].intermediate_values) == [1, 10, 20]
