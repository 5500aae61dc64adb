"""The commands that would run a run again: same code, same config, same data, same packages."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from nexa_contracts.run import EnvironmentRecord, RunManifest
from nexa_infra.storage.layout import Project, Tiers


def render_reproduction(manifest: RunManifest, project: Project, tiers: Tiers, *, here: EnvironmentRecord) -> list[str]:
    """Return shell lines, comments first: what differs on this machine, then the commands.

    On the same machine, with the same packages, they give the same loss curve: seeds, thread count, data order and
    code are fixed by the config and the snapshot.
    """
    lines = [f"# {manifest.run_id}, launched {manifest.created_at:%Y-%m-%d %H:%M:%S} UTC by {manifest.created_by}"]
    lines += [f"# {line}" for line in _differences(manifest.environment, here)]
    for ref in manifest.datasets:
        lines.append(f"# dataset {ref.label}, manifest sha256 {ref.manifest_sha256[:16]}")
    lines.append(f"cd {shlex.quote(str(project.root))}")
    lines += [f"nexa data verify {shlex.quote(ref.label)}" for ref in manifest.datasets]
    config = project.config(manifest.run_id)
    if not config.exists():
        config = project.manifest(manifest.run_id)  # it has not started
    again = ["nexa", "launch", str(_relative(config, project.root)), "--code", manifest.code.snapshot]
    again += ["--backend", manifest.backend]  # torchrun, where it was short for that too, stands in the config
    again += [word for ref in manifest.datasets for word in ("--set", f"data.dataset={ref.label}")]
    if manifest.resumes is not None:
        again += ["--resume", manifest.resumes.run_id]
    lines.append(" ".join(shlex.quote(word) for word in again))
    lines.append(f"# the code alone: tar -xzf {shlex.quote(str(tiers.snapshot(manifest.code.snapshot)))} -C FOLDER")
    return lines


def _differences(then: EnvironmentRecord, now: EnvironmentRecord) -> Iterator[str]:
    for name in ("hostname", "platform", "python", "cpu", "driver"):
        before, after = getattr(then, name), getattr(now, name)
        if before != after:
            yield f"differs here: {name} was {before}, is {after}"
    if [gpu.name for gpu in then.gpus] != [gpu.name for gpu in now.gpus]:
        yield f"differs here: gpus were {[gpu.name for gpu in then.gpus]}, are {[gpu.name for gpu in now.gpus]}"
    changed = [f"{name}=={version}" for name, version in then.packages.items() if now.packages.get(name) != version]
    if changed:
        yield f"differs here: {len(changed)} packages; as they were: pip install {shlex.join(changed)}"


def _relative(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path
