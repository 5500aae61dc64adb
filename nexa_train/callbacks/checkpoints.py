"""When a checkpoint is saved, and its hand-over to the promoter, which seals, copies and rotates meanwhile."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from nexa_contracts.training import CheckpointConfig
from nexa_infra.storage.atomic import storage_errors
from nexa_infra.storage.layout import CHECKPOINT_PREFIX
from nexa_infra.storage.promoter_client import PromoterClient
from nexa_infra.storage.promoter_messages import PromoterRequest
from nexa_train.apart import Apart
from nexa_train.callbacks.base import Callback
from nexa_train.job import Job


class CheckpointCallback(Callback):
    """Saves at the config's steps, at the last one, and when asked to leave; comes after the callbacks that ask."""

    def __init__(self, job: Job, promoter: PromoterClient) -> None:
        self._job = job
        self._config: CheckpointConfig = job.train.checkpoints
        self._promoter = promoter
        self.unfinished: Path | None = None
        """The checkpoint that is being written now."""
        self.apart = Apart()
        """Processes that save on a scratch of their own."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a checkpoint, and for a log before it: a diverging loss is seen before it is saved."""
        every = self._config.every_steps
        if state.global_step >= state.max_steps or (every is not None and state.global_step % every == 0):
            control.should_save = True
        if control.should_save:
            control.should_log = True
            self.unfinished = self._folder(state.global_step)
            if state.is_world_process_zero:
                self._remove_stale(state.global_step)
            if args.world_size > 1:
                import torch.distributed as dist

                dist.barrier()  # or it would remove what another process has saved already

    def _remove_stale(self, step: int) -> None:
        # A damaged checkpoint that was passed over on resuming: its files and seal must not mix with the new ones.
        folder = self._folder(step)
        if folder.exists():
            with storage_errors(folder, "removing the checkpoint that was not used"):
                shutil.rmtree(folder)

    def _folder(self, step: int) -> Path:
        return self._job.saving / f"{CHECKPOINT_PREFIX}{step}"

    def on_save(self, args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Hand the checkpoint over once the files of all processes are there."""
        self.unfinished = None
        if args.world_size > 1:
            import torch.distributed as dist

            dist.barrier()  # the others' random states are written after the first process's files
            self.apart.gather(self._folder(state.global_step), self._job)
        if not state.is_world_process_zero:
            return
        step = state.global_step
        every = self._config.promote_every_steps
        is_kept = every is not None and step % every == 0
        request = PromoterRequest.of_checkpoint(
            self._folder(step),
            run_id=self._job.run_id,
            step=step,
            promote=is_kept,
            keep_last=self._config.keep_last,
        )
        self._promoter.submit(request.appearing_as(self._job.checkpoints / self._folder(step).name))
