"""The line that runs a run again names where it ran: the site's own backend may be another, or become one."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from nexa_infra.operations.context import Context, open_context
from nexa_infra.operations.launch import launch_sweep, load_run_config
from nexa_infra.operations.reproduce import render_reproduction
from nexa_infra.storage.manifests import read_run_manifest
from nexa_infra.testing.clock import FakeClock
from tests.operations.test_unasked import SWEEP, WithSlurm


@pytest.fixture
def context(tmp_path: Path, state_dir: Path) -> Context:
    (tmp_path / "nexa.yaml").write_text("backend: slurm\n")
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    return open_context(tmp_path, clock=FakeClock(), runner=WithSlurm(), environment=dict(os.environ))


@pytest.mark.parametrize(
    ("backend", "shown", "launcher"), [("ddp", "local", "torchrun"), ("local", "local", None), ("slurm", "slurm", None)]
)
def test_the_backend_of_a_run_is_in_the_line_that_runs_it_again(
    context: Context, backend: str, shown: str, launcher: str | None
) -> None:
    written = launch_sweep(context.project.root / "sweep.yaml", backend=backend, submit=False, context=context)
    manifest = read_run_manifest(context.project, written.run_ids[0])
    lines = render_reproduction(manifest, context.project, context.tiers, here=manifest.environment)
    words = next(shlex.split(line) for line in lines if line.startswith("nexa launch"))
    assert words[words.index("--backend") + 1] == shown
    assert load_run_config(context.project.root / words[2], ()).launcher == launcher
