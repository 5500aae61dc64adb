"""Training with Axolotl: its config rendered from ours, checked against its own schema, run, and its model promoted.

Axolotl pins other versions of the same packages, so it lives in an environment of its own: $NEXA_AXOLOTL names its
program, else the first `axolotl` on PATH is taken.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nexa_contracts.base import digest_json
from nexa_contracts.clock import Clock
from nexa_contracts.errors import ConfigError, JobFailed, StorageError
from nexa_contracts.exit_codes import CommandExit, WorkExit
from nexa_contracts.run import FailureNote, WorkResult
from nexa_infra.storage.checkpoints import StartingPoint
from nexa_infra.storage.layout import CHECKPOINT_PREFIX
from nexa_infra.storage.metrics import read_metrics, read_whole
from nexa_infra.storage.seal import seal_folder
from nexa_train.backends.axolotl_config import AxolotlPaths, render_axolotl
from nexa_train.backends.axolotl_metrics import append_metrics, read_entry
from nexa_train.backends.axolotl_program import open_program
from nexa_train.backends.ending import Ending, note_failure
from nexa_train.cache import build_once
from nexa_train.data import StagedDataset, is_held_out, read_rows, stage_dataset
from nexa_train.final_model import (
    adopt_final,
    find_finished,
    find_kept,
    promote_final,
    tell_unpromoted,
    training_log,
)
from nexa_train.job import Job
from nexa_train.resume import STATE_NAME, find_start
from nexa_train.signals import LeaveNow

logger = logging.getLogger(__name__)


def train(job: Job, *, clock: Clock) -> Ending:
    """Return how the training ended, after its final model is on durable.

    Raises:
        NotFound: the dataset is not registered.
        ConfigError: Axolotl is not installed, refuses the config, or the data is not as the config says.
        JobFailed: Axolotl failed; its own words are in the log.
        StorageError: a tier cannot be read or written.
    """
    finished = find_finished(job, clock=clock)
    if finished is not None:
        return Ending(WorkExit.DONE, finished)
    program = open_program(job)
    job.check_fence()
    _seal_complete(job, clock)
    start = find_start(job)
    dataset = stage_dataset(job.tiers, job.train.data.dataset)
    folder = write_splits(job, dataset)
    config = render_axolotl(job.train, _paths(job, dataset, folder, start), name=job.config.name)
    path = program.write_config(job, config)
    try:
        program.train(job, path)
    except LeaveNow:
        return _leave(job, start, clock)
    ending = _finish(job, clock)
    update = {"resumed_from": start.origin, "skipped_checkpoints": start.skipped}
    return Ending(ending.status, ending.result.model_copy(update=update))


def write_splits(job: Job, dataset: StagedDataset) -> Path:
    """Return a folder with `train.jsonl` and `eval.jsonl`: the same rows are held out as by the other backend.

    Raises:
        ConfigError: a row is not of the format.
        StorageError: scratch cannot be written.
    """
    data = job.train.data
    key = digest_json({"dataset": dataset.digest, "data": data.model_dump(exclude={"block_size"})})

    def build(folder: Path) -> None:
        with (folder / "train.jsonl").open("w") as train, (folder / "eval.jsonl").open("w") as held_out:
            for row in read_rows(dataset, data):
                stream = held_out if is_held_out(row, data.eval_fraction) else train
                stream.write(json.dumps(row) + "\n")

    return build_once(job.tiers.dataloader_cache / f"rows-{key[:16]}", build)


def _paths(job: Job, dataset: StagedDataset, splits: Path, start: StartingPoint) -> AxolotlPaths:
    has_evaluation = (splits / "eval.jsonl").stat().st_size > 0
    base_model = job.train.model.path
    return AxolotlPaths(
        base_model=str(_write_base(job, dataset)) if base_model is None else base_model,
        train_file=splits / "train.jsonl",
        eval_file=splits / "eval.jsonl" if has_evaluation else None,
        output=job.checkpoints,
        prepared=job.tiers.dataloader_cache / "axolotl",
        resume_from=start.folder,
    )


def _write_base(job: Job, dataset: StagedDataset) -> Path:
    # A shape and a tokenizer without weights, for Axolotl's reinit_weights.
    from nexa_train.model import llama_config
    from nexa_train.tokenizer import train_tokenizer, wrap_tokenizer

    train = job.train
    if train.model.scratch is None:
        raise ConfigError("model: found neither path nor scratch")
    folder = job.checkpoints / "base"
    tokenizer = wrap_tokenizer(
        train_tokenizer(job.tiers, dataset, train.data, vocab_size=train.model.scratch.vocab_size)
    )
    tokenizer.save_pretrained(str(folder))
    shape = llama_config(
        train.model.scratch, train.data.block_size, end_id=tokenizer.eos_token_id, pad_id=tokenizer.pad_token_id
    )
    shape.save_pretrained(str(folder))
    return folder


def _leave(job: Job, start: StartingPoint, clock: Clock) -> Ending:
    job.check_fence()
    _seal_complete(job, clock)
    state = _read_newest(job)
    if state is None:
        raise LeaveNow
    update = {"resumed_from": start.origin, "skipped_checkpoints": start.skipped, "steps": int(state["global_step"])}
    return Ending(WorkExit.SAVED_AND_LEFT, WorkResult().model_copy(update=update))


def _seal_complete(job: Job, clock: Clock) -> None:
    # Axolotl's Trainer writes its state last, so a checkpoint that has it was not cut off.
    for folder in sorted(job.checkpoints.glob(f"{CHECKPOINT_PREFIX}*")):
        state = _read_state(folder)
        if state is not None:
            step = int(state["global_step"])
            seal_folder(folder, kind="checkpoint", run_id=job.run_id, step=step, now=clock.now())


def _read_state(folder: Path) -> dict[str, Any] | None:
    try:
        state = json.loads((folder / STATE_NAME).read_text())
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) else None


def _read_newest(job: Job) -> dict[str, Any] | None:
    states = [state for folder in job.checkpoints.glob(f"{CHECKPOINT_PREFIX}*") if (state := _read_state(folder))]
    return max(states, key=lambda state: int(state["global_step"]), default=None)


def _finish(job: Job, clock: Clock) -> Ending:
    state = _read_newest(job)
    if state is None:
        raise JobFailed(f"{job.checkpoints}: axolotl left no checkpoint, so there is nothing to tell of its training")
    steps, history = int(state["global_step"]), state["log_history"]
    metrics = _record_metrics(job, history, clock)
    result = WorkResult(steps=steps, tokens=state.get("num_input_tokens_seen") or None, metrics=metrics)
    losses = [entry["loss"] for entry in history if "loss" in entry]
    if losses and not math.isfinite(losses[-1]):
        note = FailureNote(kind="diverged", message=f"the loss is {losses[-1]} at step {steps}")
        return Ending(WorkExit.DIVERGED, result.model_copy(update={"failure": note}))
    if not job.is_main:
        return Ending(WorkExit.DONE, result)
    folder = adopt_final(job, logs=training_log(result, history))
    try:
        artifact = promote_final(job, folder, step=steps, clock=clock)
    except StorageError as error:
        told = tell_unpromoted(job, error, last_step=steps)
        logger.warning("%s", told)
        note = note_failure(told)
        return Ending(CommandExit.FAILED, result.model_copy(update={"failure": note}))
    artifacts = (*find_kept(job, last_step=steps), artifact)
    return Ending(WorkExit.DONE, result.model_copy(update={"artifacts": artifacts}))


def _record_metrics(job: Job, history: Iterable[Mapping[str, Any]], clock: Clock) -> dict[str, float]:
    # What our callbacks told while it trained stands there already; without them every line has the time of the end.
    told = max((read_whole(record.get("step")) or 0 for record in read_metrics(job.run_dir.metrics)), default=0)
    last: dict[str, float] = {}
    for entry in history:
        values = read_entry(job, entry)
        last |= values
        if entry["step"] > told:
            append_metrics(job, entry["step"], values, clock=clock)
    return last
