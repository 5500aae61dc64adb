"""Training with the Hugging Face Trainer: text, conversations or preferences, from one config."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any, TypeVar

from nexa_contracts.clock import Clock
from nexa_contracts.errors import StorageError
from nexa_contracts.exit_codes import CommandExit, WorkExit
from nexa_contracts.run import FailureNote, WorkResult
from nexa_infra.monitoring.run_events import Bucket
from nexa_infra.process import SystemRunner
from nexa_infra.storage.checkpoints import StartingPoint
from nexa_infra.storage.promoter_client import PromoterClient
from nexa_train.apart import find_apart
from nexa_train.arguments import training_arguments
from nexa_train.backends.ending import Ending, note_failure
from nexa_train.backends.recipe import Recipe
from nexa_train.final_model import (
    find_finished,
    find_kept,
    promote_final,
    save_final,
    tell_unpromoted,
    training_log,
)
from nexa_train.job import Job
from nexa_train.parting import part
from nexa_train.restarting import end_predecessor, tell_crash
from nexa_train.resume import STATE_NAME, check_shape, find_start
from nexa_train.saving import saving_errors
from nexa_train.signals import LeaveRequest
from nexa_train.timeline import Timeline
from nexa_train.tokenizer import first_line
from nexa_train.trackers import check_trackers

logger = logging.getLogger(__name__)

DRAIN_TIMEOUT_S = 3600.0
"""Most that is waited for the promoter at the end; the walltime ends the job before."""

SharedT = TypeVar("SharedT")
_NO_RESULT = frozenset({"learning_rate", "grad_norm"})
"""Of the last step, and nothing that a run has achieved."""


@dataclass(frozen=True, slots=True)
class _Session:
    # The parts of one attempt that its steps share.
    job: Job
    clock: Clock
    recipe: Recipe
    trainer: Any
    heartbeat: Any
    metrics: Any
    leaving: Any
    divergence: Any
    checkpoints: Any
    promoter: PromoterClient


def train(job: Job, *, clock: Clock, leave: LeaveRequest) -> Ending:
    """Return how the training of a job ended, after its checkpoints are sealed and its final model is on durable.

    Raises:
        NotFound: the dataset is not registered.
        ConfigError: the data, the model or what it resumes is not as the config says.
        MissingExtra: a package of the training stack is not installed.
        StorageError: a tier cannot be read or written.
    """
    check_trackers(job.train.report_to)
    end_predecessor(job)
    ending = _train(job, clock=clock, leave=leave)
    if job.world_size > 1:
        part()
    return ending


def _train(job: Job, *, clock: Clock, leave: LeaveRequest) -> Ending:
    # The first process decides: others could find something else, and hashing it in each would be that much slower.
    finished = find_finished(job, clock=clock) if job.is_main else None
    if finished is not None:
        logger.info("the final model of run_id=%s is on durable already", job.run_id)
        if job.world_size == 1:
            return Ending(WorkExit.DONE, finished)
    from nexa_train.callbacks.timeline import TimelineCallback

    timeline = Timeline(job, clock=clock)
    start = find_start(job) if job.is_main else StartingPoint()
    timeline.charge(Bucket.STARTUP if start.folder is None else Bucket.RESTORE)
    recipe = _prepare(job)
    with timeline, PromoterClient(job.tiers, starter=SystemRunner(), environment=job.environment) as promoter:
        session = _open_session(job, recipe, promoter=promoter, clock=clock, leave=leave)
        session.trainer.add_callback(
            TimelineCallback(timeline)
        )  # the last one, so that it charges what the others took
        timeline.charge(Bucket.STARTUP)
        start, finished = _share((start, finished), job)
        if finished is not None:
            return Ending(WorkExit.DONE, finished)
        session.checkpoints.apart = find_apart(job)
        with session.checkpoints.apart.deliver(start, job) as here:
            check_shape(here, recipe.model.config)
            ending = _train_and_finish(session, here)
    return Ending(
        ending.status,
        ending.result.model_copy(update={"resumed_from": start.origin, "skipped_checkpoints": start.skipped}),
    )


def _prepare(job: Job) -> Recipe:
    match job.train.data.format:
        case "text":
            from nexa_train.backends.text import prepare_text

            return prepare_text(job)
        case "chat":
            from nexa_train.backends.chat import prepare_chat

            return prepare_chat(job)
        case "preference":
            from nexa_train.backends.preference import prepare_preference

            return prepare_preference(job)


def _open_session(job: Job, recipe: Recipe, *, promoter: PromoterClient, clock: Clock, leave: LeaveRequest) -> _Session:
    import torch
    from transformers.trainer_callback import PrinterCallback
    from transformers.utils import logging as transformers_logging

    from nexa_train.callbacks.checkpoints import CheckpointCallback
    from nexa_train.callbacks.divergence import DivergenceCallback
    from nexa_train.callbacks.fence import FenceCallback
    from nexa_train.callbacks.final_evaluation import FinalEvaluationCallback
    from nexa_train.callbacks.heartbeat import HeartbeatCallback
    from nexa_train.callbacks.leaving import LeaveCallback
    from nexa_train.callbacks.metrics import Meter, MetricsCallback
    from nexa_train.model import is_dense
    from nexa_train.throughput import measure_model

    transformers_logging.disable_progress_bar()
    arguments = training_arguments(
        job,
        use_cpu=not torch.cuda.is_available(),
        has_evaluation=recipe.eval_data is not None,
        is_dense=is_dense(recipe.model),
    )
    cost = measure_model(recipe.model, block_size=job.train.data.block_size)
    metrics = MetricsCallback(job, meter=Meter(recipe.count_tokens, cost, recipe.reading), clock=clock)
    heartbeat = HeartbeatCallback(job, clock=clock)
    leaving, divergence = LeaveCallback(leave), DivergenceCallback(job.train.training.divergence_factor)
    checkpoints = CheckpointCallback(job, promoter)
    trainer = recipe.trainer_class(
        model=recipe.model,
        args=recipe.arguments_class(**arguments, **recipe.arguments),
        train_dataset=recipe.train_data,
        eval_dataset=recipe.eval_data,
        processing_class=recipe.tokenizer,
        # Leaving before checkpoints, which save what it asks for; the fence after them, before anything is written;
        # metrics before divergence, which judges them.
        callbacks=[heartbeat, leaving, checkpoints, FenceCallback(job, clock=clock), metrics, divergence],
        **recipe.trainer_options,
    )
    if recipe.eval_data is not None:
        trainer.add_callback(FinalEvaluationCallback())
    trainer.remove_callback(PrinterCallback)
    logger.info(
        "training %s parameters of %s on %d sequences run_id=%s attempt=%d",
        f"{cost.trained_parameters:,}",
        f"{cost.parameters:,}",
        len(trainer.train_dataset),
        job.run_id,
        job.attempt,
    )
    return _Session(job, clock, recipe, trainer, heartbeat, metrics, leaving, divergence, checkpoints, promoter)


def _train_and_finish(session: _Session, start: StartingPoint) -> Ending:
    import torch

    try:
        with saving_errors(session.job, lambda: session.checkpoints.unfinished):
            try:
                _run(session.trainer, start)
            except BaseException as error:
                session.heartbeat.say_last(session.trainer.state)
                tell_crash(session.job, error, step=session.trainer.state.global_step)
                raise
        return _finish(session)
    except torch.OutOfMemoryError as error:
        training = session.job.train.training
        message = (
            f"the GPU's memory is too small for training.batch_size {training.batch_size} with data.block_size "
            f"{session.job.train.data.block_size}; halve the batch and double training.gradient_accumulation, or set "
            "training.gradient_checkpointing: true"
        )
        logger.exception("%s", message)
        note = FailureNote(kind="out_of_memory", message=message, evidence=(first_line(error),))
        return Ending(CommandExit.FAILED, _result(session, failure=note))


def _share(decided: SharedT, job: Job) -> SharedT:
    if job.world_size == 1:
        return decided
    import torch.distributed as dist

    shared = [decided]
    dist.broadcast_object_list(shared)
    return shared[0]


def _run(trainer: Any, start: StartingPoint) -> None:
    if start.folder is None:
        trainer.train()
        return
    if start.step < _planned_steps(trainer):
        logger.info("going on from %s", start.origin)
        trainer.train(resume_from_checkpoint=str(start.folder))
        return
    # The Trainer would train one step too many. It was killed after its last step, so only the end is left to do.
    from transformers.trainer_callback import TrainerState

    logger.info("%s is the last step; evaluating it", start.origin)
    trainer._load_from_checkpoint(str(start.folder))
    trainer.state = TrainerState.load_from_json(str(start.folder / STATE_NAME))


def _planned_steps(trainer: Any) -> int:
    if trainer.args.max_steps > 0:
        return int(trainer.args.max_steps)
    steps_an_epoch: int = math.ceil(len(trainer.get_train_dataloader()) / trainer.args.gradient_accumulation_steps)
    epochs: float = trainer.args.num_train_epochs
    return math.ceil(epochs * steps_an_epoch)


def _finish(session: _Session) -> Ending:
    if session.divergence.failure is not None:
        _drain(session)
        return Ending(WorkExit.DIVERGED, _result(session, failure=session.divergence.failure))
    if session.leaving.has_left:
        session.promoter.drain(DRAIN_TIMEOUT_S)  # what is left behind must be sealed, or the leaving failed
        return Ending(WorkExit.SAVED_AND_LEFT, _result(session))
    is_evaluated = session.metrics.evaluated_step == session.trainer.state.global_step
    if session.recipe.eval_data is not None and not is_evaluated:
        session.trainer.evaluate()  # nothing was left to train
    if not session.job.is_main:
        return Ending(WorkExit.DONE, _result(session))
    state = session.trainer.state
    folder = save_final(
        session.job,
        model=session.trainer.accelerator.unwrap_model(session.trainer.model),
        tokenizer=session.recipe.tokenizer,
        logs=training_log(_result(session), state.log_history),
    )
    try:
        artifact = promote_final(session.job, folder, step=state.global_step, clock=session.clock)
    except StorageError as error:
        _drain(session)
        told = tell_unpromoted(session.job, error, last_step=state.global_step)
        logger.warning("%s", told)
        note = note_failure(told)
        return Ending(CommandExit.FAILED, _result(session, failure=note))
    _drain(session)
    result = _result(session)
    return Ending(WorkExit.DONE, result.model_copy(update={"artifacts": (*result.artifacts, artifact)}))


def _drain(session: _Session) -> None:
    # Training has ended: a checkpoint that could not be kept is told, and does not undo what was reached.
    try:
        session.promoter.drain(DRAIN_TIMEOUT_S)
    except StorageError as error:
        logger.warning("a checkpoint is not kept run_id=%s: %s", session.job.run_id, error)


def _result(session: _Session, failure: FailureNote | None = None) -> WorkResult:
    metrics, steps = session.metrics, session.trainer.state.global_step
    values = {name: value for name, value in metrics.last.items() if name not in _NO_RESULT}
    for name, value in (("tokens_per_s", metrics.tokens_per_s), ("mfu", metrics.mfu)):
        if value is not None:
            values[name] = value
    return WorkResult(
        steps=steps,
        tokens=metrics.tokens,
        metrics=values,
        artifacts=find_kept(session.job, last_step=steps),
        failure=failure,
    )
