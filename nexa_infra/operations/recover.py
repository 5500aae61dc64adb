"""What runs could not bring to durable, brought there later: interrupted promotions settled, those refused made now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nexa_contracts.artifact import ArtifactManifest
from nexa_contracts.errors import NotFound, StorageError
from nexa_infra.operations.context import Context
from nexa_infra.operations.progress import read_object
from nexa_infra.operations.reconcile import settle_ended
from nexa_infra.storage.artifacts import find_artifact
from nexa_infra.storage.checkpoints import list_scratch_checkpoints
from nexa_infra.storage.layout import checkpoint_name
from nexa_infra.storage.promote import ArtifactLabel, promote_folder
from nexa_infra.storage.recovery import Recovery, recover_promotions
from nexa_infra.storage.seal import read_seal


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a recovery did."""

    settled: Recovery
    promoted: tuple[ArtifactManifest, ...]
    failed: tuple[str, ...]
    """One line for each that is still not on durable, with the reason."""


def recover_artifacts(context: Context) -> Recovered:
    """Settle interrupted promotions, and promote what ended runs of this project left whole on scratch.

    That are final models, and checkpoints that their run was to keep. The copies of manifests that durable lacks are
    made too. Safe to repeat, and beside runs that go on.

    Raises:
        TierMissing: a tier is not mounted.
        StorageError: durable is read-only or broken.
    """
    tiers = context.require_tiers()
    settled = recover_promotions(tiers, clock=context.clock)
    promoted: list[ArtifactManifest] = []
    failed: list[str] = []
    for folder, label in find_unpromoted(context):
        try:
            promoted.append(promote_folder(folder, label, tiers=tiers, clock=context.clock))
        except StorageError as error:
            failed.append(f"{label.name}: {error}")
    settle_ended(context)
    return Recovered(settled, tuple(promoted), tuple(failed))


def find_unpromoted(context: Context) -> Iterator[tuple[Path, ArtifactLabel]]:
    """Yield the sealed folders of ended runs on scratch that were for durable and are not there, with their labels.

    Raises:
        StorageError: scratch or durable cannot be read.
    """
    tiers, project = context.tiers, context.project
    runs = tiers.checkpoints_temp("x").parent
    for run_id in sorted(path.name for path in runs.iterdir()) if runs.is_dir() else ():
        if not project.outcome(run_id).exists():
            continue  # it goes on, and promotes its own; or it is another project's
        candidates = {run_id: tiers.final_temp(run_id)}
        every = (read_object(project.config(run_id)).get("checkpoints") or {}).get("promote_every_steps")
        for checkpoint in list_scratch_checkpoints(run_id, tiers):
            if every and checkpoint.step % every == 0:
                candidates[checkpoint_name(run_id, checkpoint.step)] = checkpoint.path
        for name, folder in candidates.items():
            label = _find_label(folder, name)
            if label is not None and find_artifact(tiers, name) is None:
                yield folder, label


def _find_label(folder: Path, name: str) -> ArtifactLabel | None:
    try:
        seal = read_seal(folder)
    except NotFound:
        return None  # never whole, or promoted without one
    return ArtifactLabel(name, seal.kind, seal.run_id, seal.step)
