"""The final model: saved to scratch with its config and its log, then promoted to durable under the run's id."""

from __future__ import annotations

import io
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from nexa_contracts.artifact import ArtifactManifest, ArtifactRef
from nexa_contracts.clock import Clock
from nexa_contracts.errors import AlreadyExists, DigestMismatch, StorageError
from nexa_contracts.run import RunConfig, WorkResult
from nexa_infra.scheduling.torchrun import count_restarts
from nexa_infra.storage.artifacts import find_artifact
from nexa_infra.storage.atomic import storage_errors
from nexa_infra.storage.fence import publish_folder
from nexa_infra.storage.layout import CHECKPOINT_PREFIX, checkpoint_name
from nexa_infra.storage.promote import ArtifactLabel, promote_folder
from nexa_infra.storage.recovery import recover_promotions
from nexa_infra.storage.seal import seal_folder, verify_seal
from nexa_train.job import Job
from nexa_train.saving import saving_errors

CONFIG_NAME = "config.yaml"
LOGS_NAME = "logs.json"
_NOT_OF_A_MODEL = frozenset({".bin", ".pt", ".pth", ".log"})
"""Endings of pickles and logs; the weights are safetensors."""


def save_final(job: Job, *, model: Any, tokenizer: Any, logs: Mapping[str, Any]) -> Path:
    """Return the folder on scratch with the model's safetensors, its tokenizer, `config.yaml` and `logs.json`.

    Raises:
        StorageError: scratch is full, read-only or broken.
    """
    final = job.tiers.final_temp(job.run_id)
    folder = final if job.fence is None else job.saving / final.name
    with storage_errors(folder, "saving the final model"), saving_errors(job, lambda: folder):
        shutil.rmtree(folder, ignore_errors=True)  # of an attempt that was killed here
        folder.mkdir(parents=True)
        model.save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))
        _complete(folder, job, logs)
    if folder != final:
        publish_folder(folder, final, job.fence)
    return final


def adopt_final(job: Job, *, logs: Mapping[str, Any]) -> Path:
    """Return the folder of a final model that another program saved among the run's checkpoints.

    Raises:
        StorageError: scratch is full, read-only or broken.
    """
    folder = job.tiers.final_temp(job.run_id)
    with storage_errors(folder, "gathering the final model"), saving_errors(job, lambda: folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for path in job.checkpoints.iterdir():
            if path.is_file() and path.suffix not in _NOT_OF_A_MODEL:
                shutil.copyfile(path, folder / path.name)
        _complete(folder, job, logs)
    return folder


def _complete(folder: Path, job: Job, logs: Mapping[str, Any]) -> None:
    (folder / CONFIG_NAME).write_text(render_yaml(job.config))
    (folder / LOGS_NAME).write_text(json.dumps(logs, indent=1) + "\n")
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors writes for the owner alone; durable is for others too


def promote_final(job: Job, folder: Path, *, step: int, clock: Clock) -> ArtifactRef:
    """Return the promoted model; when this returns it lies on durable, every byte read back from its digest.

    Raises:
        StorageError: durable is full, read-only or broken.
    """
    label = ArtifactLabel(name=job.run_id, kind="model", run_id=job.run_id, step=step)
    job.check_fence()
    try:
        return _reference(promote_folder(folder, label, tiers=job.tiers, clock=clock))
    except StorageError:
        # Its seal proves later that it is whole: `nexa storage recover` promotes nothing else.
        seal_folder(folder, kind="model", run_id=job.run_id, step=step, now=clock.now(), replace=True)
        raise


def tell_unpromoted(job: Job, error: StorageError, *, last_step: int) -> StorageError:
    """Return the error that names, with what kept them from durable, the final model and each checkpoint to be kept."""
    if isinstance(error, AlreadyExists | DigestMismatch):
        return error  # of this folder, and not of durable: trying again later changes nothing
    every = job.train.checkpoints.promote_every_steps
    kept = () if every is None else range(every, last_step + 1, every)
    missing = [step for step in kept if find_artifact(job.tiers, checkpoint_name(job.run_id, step)) is None]
    here = [str(step) for step in missing if (job.checkpoints / f"{CHECKPOINT_PREFIX}{step}").is_dir()]
    gone = [str(step) for step in missing if str(step) not in here]
    parts = [
        f"not promoted: model {job.run_id}",
        f"its checkpoints of step {', '.join(here)}" if here else None,
        f"its checkpoints of step {', '.join(gone)}, which scratch has no more" if gone else None,
        error.message,
    ]
    return StorageError(
        "; ".join(filter(None, parts)),
        hint=f"what is in {job.checkpoints} is whole; when durable can be written: nexa storage recover",
    )


def find_finished(job: Job, *, clock: Clock) -> WorkResult | None:
    """Return the result of an earlier start that promoted the final model and died before it could say so.

    Raises:
        StorageError: durable cannot be read, or the promoted model is damaged.
    """
    if job.attempt == 1 and count_restarts(job.run_dir, job.attempt) == 0:
        return None
    recover_promotions(job.tiers, clock=clock)
    manifest = find_artifact(job.tiers, job.run_id)
    if manifest is None:
        return None
    folder = job.tiers.checkpoint(job.run_id)
    verify_seal(folder)
    logs = json.loads((folder / LOGS_NAME).read_text())
    artifacts = (*find_kept(job, last_step=logs["steps"]), _reference(manifest))
    return WorkResult(steps=logs["steps"], tokens=logs["tokens"], metrics=logs["metrics"], artifacts=artifacts)


def find_kept(job: Job, *, last_step: int) -> tuple[ArtifactRef, ...]:
    """Return the run's checkpoints that are kept on durable, those of earlier attempts too.

    Raises:
        StorageError: durable cannot be read.
    """
    every = job.train.checkpoints.promote_every_steps
    if every is None:
        return ()
    steps = range(every, last_step + 1, every)
    found = (find_artifact(job.tiers, checkpoint_name(job.run_id, step)) for step in steps)
    return tuple(_reference(manifest) for manifest in found if manifest is not None)


def render_yaml(config: RunConfig) -> str:
    """Return a resolved run config as YAML that `nexa launch` reads back to the same config."""
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(_without_nulls(config.model_dump(mode="json")), stream)
    return stream.getvalue()


def training_log(result: WorkResult, history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what `logs.json` holds: the totals, the last metrics, and the Trainer's log."""
    return {
        "steps": result.steps,
        "tokens": result.tokens,
        "metrics": result.metrics,
        "history": [{name: _finite(value) for name, value in entry.items()} for entry in history],
    }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _without_nulls(value: dict[str, Any]) -> dict[str, Any]:
    # What is not set stays out: `command: null` would say less than its absence.
    return {
        key: _without_nulls(part) if isinstance(part, dict) else part for key, part in value.items() if part is not None
    }


def _reference(manifest: ArtifactManifest) -> ArtifactRef:
    return ArtifactRef(
        name=manifest.name,
        kind=manifest.kind,
        step=manifest.step,
        path=manifest.path,
        seal_sha256=manifest.seal_sha256,
        size_bytes=manifest.size_bytes,
    )
