"""A launch that is interrupted when its run is planned and not yet handed over."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import pytest

from nexa_contracts.clock import SystemClock
from nexa_contracts.config import Override
from nexa_infra.operations.context import Context
from nexa_infra.operations.launch import launch_training_job
from nexa_infra.storage.layout import Project


@dataclass(frozen=True)
class InterruptingClock(SystemClock):
    """Interrupts whoever asks for the time once a run is planned: the next to ask is the backend."""

    project: Project

    def now(self) -> datetime:
        if any(self.project.manifests.glob("run_*.json")):
            raise KeyboardInterrupt
        return super().now()


def cut_off_launch(context: Context, config: Path, *overrides: Override) -> str:
    """Return the run of a launch that was interrupted before it handed it over."""
    interrupted = replace(context, clock=InterruptingClock(context.project))
    with pytest.raises(KeyboardInterrupt):
        launch_training_job(config, overrides=overrides, context=interrupted)
    (manifest,) = context.project.manifests.glob("run_*.json")
    assert not context.project.submission(manifest.stem).exists()
    return manifest.stem
