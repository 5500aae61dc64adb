"""Experiment trackers: pointed at folders of the run unless their own variables say otherwise."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence

from nexa_contracts.errors import ConfigError
from nexa_train.job import Job

MODULES = {
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
    "trackio": ("trackio",),
    "tensorboard": ("tensorboard", "tensorboardX"),
}
"""For each tracker the modules of which one must be installed."""
PACKAGES = {"mlflow": "mlflow-skinny 'sqlalchemy<3' 'alembic<2'"}
"""What to install, where it is not the tracker's own name; the small mlflow writes to a file of the run."""


def check_trackers(report_to: Sequence[str]) -> None:
    """Return when every tracker named can be imported.

    Raises:
        ConfigError: a package is missing.
    """
    missing = [name for name in report_to if not any(map(importlib.util.find_spec, MODULES.get(name, (name,))))]
    if missing:
        raise ConfigError(
            f"report_to: {', '.join(missing)} not installed",
            hint=f"pip install {' '.join(PACKAGES.get(name, name) for name in missing)}, or leave it out of report_to",
        )


def tracker_environment(job: Job, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the run's trackers lack; what is set already stays.

    Without WANDB_API_KEY wandb writes to scratch, for `wandb sync` to send later. Attempts of a run go on in the same
    wandb run. The others write into the run's own folder.
    Source: https://docs.wandb.ai/guides/track/environment-variables; transformers.integrations.integration_utils.
    """
    wanted: dict[str, str] = {}
    if "wandb" in job.train.report_to:
        wanted |= {
            "WANDB_DIR": str(job.tiers.wandb_offline),
            "WANDB_NAME": job.run_id,
            "WANDB_RUN_ID": job.run_id,
            "WANDB_RESUME": "allow",
            "WANDB_PROJECT": job.config.name,
        }
        if not environment.get("WANDB_API_KEY"):
            wanted["WANDB_MODE"] = "offline"
    if "mlflow" in job.train.report_to:
        wanted |= {
            "MLFLOW_TRACKING_URI": f"sqlite:///{job.run_dir.path / 'mlflow.db'}",
            "MLFLOW_EXPERIMENT_NAME": job.config.name,
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
    if "tensorboard" in job.train.report_to:
        wanted["TENSORBOARD_LOGGING_DIR"] = str(job.run_dir.path / "tensorboard")
    if "trackio" in job.train.report_to:
        wanted["TRACKIO_DIR"] = str(job.run_dir.path / "trackio")
    return {name: value for name, value in wanted.items() if not environment.get(name)}
