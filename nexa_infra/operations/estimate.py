"""What a file will cost at most, before anything is launched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nexa_contracts.config import Override
from nexa_contracts.cost import CostEstimate
from nexa_contracts.run import RunConfig
from nexa_contracts.sweep import SweepConfig
from nexa_contracts.yaml_text import read_yaml
from nexa_infra.operations.context import Context
from nexa_infra.operations.launch import load_run_config
from nexa_infra.operations.members import estimate_runs, expand_sweep, survey_members
from nexa_infra.scheduling.sweep import load_sweep


def estimate_file(context: Context, path: Path, overrides: Sequence[Override]) -> CostEstimate:
    """Return the bound for a run config, or for all runs of a sweep file.

    Raises:
        NotFound, ConfigError: as for a launch.
    """
    data = read_yaml(path).data
    only_in_sweeps = SweepConfig.model_fields.keys() - RunConfig.model_fields.keys()
    if isinstance(data, dict) and only_in_sweeps & data.keys():
        config, base, definition = load_sweep(path, overrides)
        members = expand_sweep(definition, base, stamp="estimate", tags=config.tags)
        return estimate_runs(survey_members(members).sizes, context.site)
    return estimate_runs({load_run_config(path, overrides).resources: 1}, context.site)
