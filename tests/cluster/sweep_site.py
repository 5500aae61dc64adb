"""A project whose sweeps of small programs run on the test cluster."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from nexa_contracts.clock import SystemClock
from nexa_infra.operations.context import Context, open_context
from nexa_infra.process import SystemRunner
from nexa_infra.scheduling.slurm.backend import SlurmBackend
from nexa_infra.scheduling.slurm.client import SlurmClient
from nexa_infra.storage.layout import Project
from tests.cluster.slurm_cluster import SlurmCluster

DEADLINE_S = 120.0
"""Far more than anything here takes; only a test that fails waits so long."""
SITE = """\
backend: slurm
slurm:
  answer_timeout: 5s
  signal_lead: 1m
"""


def wait_for(holds: Callable[[], bool], *, what: str) -> None:
    """Return as soon as a condition holds."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline_s, f"not within {DEADLINE_S:g} s: {what}"
        time.sleep(0.1)


def make_environment(cluster: SlurmCluster) -> dict[str, str]:
    """Return the environment of a person on a login node of the cluster."""
    return {**os.environ, **cluster.impatient}


def make_backend(cluster: SlurmCluster, root: Path) -> SlurmBackend:
    """Return the backend of a project, as another process would have it."""
    environment, clock = make_environment(cluster), SystemClock()
    client = SlurmClient(SystemRunner(), environment=environment, clock=clock, timeout_s=5.0)
    return SlurmBackend(Project(root).runs, client=client, environment=environment, clock=clock)


def make_project(cluster: SlurmCluster, root: Path, *, site: str = SITE) -> Context:
    """Return a new project at a root, with a site file."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "nexa.yaml").write_text(site)
    return open_context(root, environment=make_environment(cluster))


def write_sweep(root: Path, code: str, values: Mapping[str, list[object]], *, more: str = "", **run: object) -> Path:
    """Write the file of a grid whose runs execute code; `run` adds keys to the run, `more` lines to the sweep."""
    command = f"  command: [python3, -I, -S, -c, {json.dumps(code)}]"
    lines = ["run:", command, "  resources: {memory: 64MiB, walltime: 10m}"]
    lines += [f"  {key}: {value}" for key, value in run.items()]
    lines.append("axes:")
    lines += [f"  params.{name}: {{values: {listed}}}" for name, listed in values.items()]
    path = root / "sweep.yaml"
    path.write_text("\n".join([*lines, more, ""]))
    return path
