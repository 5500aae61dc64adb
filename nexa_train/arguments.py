"""The run config in the words of the Trainer's arguments."""

from __future__ import annotations

from typing import Any

from nexa_train.job import Job


def training_arguments(job: Job, *, use_cpu: bool, has_evaluation: bool, is_dense: bool) -> dict[str, Any]:
    """Return what the Trainer's arguments are given, for every kind of training; it touches nothing.

    Saving is off: the checkpoint callback decides when to, and the promoter what is kept. `is_dense` says that every
    step uses every weight of the model.
    """
    train, training = job.train, job.train.training
    arguments: dict[str, Any] = {
        "output_dir": str(job.saving),
        "run_name": job.run_id,
        "project": job.config.name,
        "per_device_train_batch_size": training.batch_size,
        "per_device_eval_batch_size": training.batch_size,
        "gradient_accumulation_steps": training.gradient_accumulation,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": training.lr_scheduler,
        "warmup_steps": training.warmup_steps,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "optim": training.optimizer,
        "bf16": training.precision == "bf16",
        "fp16": training.precision == "fp16",
        "seed": training.seed,
        "data_seed": training.seed,
        "logging_steps": training.log_every,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # it would show a healthy loss in the place of NaN
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": list(train.report_to),
        "disable_tqdm": True,
        "use_cpu": use_cpu,
        "dataloader_pin_memory": not use_cpu,
    }
    if training.max_steps is not None:
        arguments["max_steps"] = training.max_steps
    else:
        arguments["num_train_epochs"] = training.epochs
    if training.eval_every is not None and has_evaluation:
        arguments |= {"eval_strategy": "steps", "eval_steps": training.eval_every}
    if training.gradient_checkpointing:
        # The reentrant kind loses the gradient where, as under adapters, no input needs one.
        arguments |= {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"use_reentrant": False}}
    if is_dense and job.world_size > 1:
        # Looking for unused weights costs a walk through the graph at each step, and a warning of each process.
        arguments["ddp_find_unused_parameters"] = False
    if use_cpu and job.world_size > 1:
        arguments["ddp_backend"] = "gloo"
    return arguments
