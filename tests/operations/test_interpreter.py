"""Our own modules run in the interpreter of the place where the jobs run; a program of one's own is left as it is."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nexa_contracts.job import JobSpec
from nexa_infra.operations.context import open_context
from nexa_infra.operations.launch import launch_training_job

SITE = "slurm: {python: /cluster/bin/python}\n"
TRAINING = "model: {scratch: {}}\ndata: {dataset: python_stdlib}\ntraining: {max_steps: 1}\n"
SEVERAL = "resources: {gpus_per_node: 2, nodes: 2}\n"


@pytest.mark.parametrize(
    ("text", "backend", "interpreters"),
    [
        (TRAINING, "slurm", ["/cluster/bin/python"]),
        (TRAINING + SEVERAL, "slurm", ["/cluster/bin/python"] * 3),  # of the step, of a node, of the training
        (TRAINING, "local", [sys.executable]),
        (TRAINING + SEVERAL.replace(", nodes: 2", ""), "local", [sys.executable] * 2),
        ("command: [python3, -m, mine]\n", "slurm", []),
        ("command: [python3, -m, mine]\n" + SEVERAL, "slurm", ["/cluster/bin/python"] * 2),
    ],
)
def test_a_planned_command_names_the_clusters_interpreter(
    tmp_path: Path, state_dir: Path, text: str, backend: str, interpreters: list[str]
) -> None:
    (tmp_path / "nexa.yaml").write_text(SITE)
    (tmp_path / "run.yaml").write_text(text)
    context = open_context(tmp_path, environment=dict(os.environ))
    planned = launch_training_job(tmp_path / "run.yaml", backend=backend, dry_run=True, context=context)
    spec = JobSpec.from_json(next(file.text for file in planned.plan.files if file.path == "spec.json"), source="spec")
    command = spec.entry(0).command
    assert [word for word in command if word in ("/cluster/bin/python", sys.executable)] == interpreters
    assert ("python3" in command) is text.startswith("command")
