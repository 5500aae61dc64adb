"""Leaving when asked: every process stops after the same step, with a checkpoint."""

from __future__ import annotations

import logging
from typing import Any

from nexa_train.callbacks.base import Callback
from nexa_train.signals import LeaveRequest

logger = logging.getLogger(__name__)


class LeaveCallback(Callback):
    """Stops training after a step when any process was asked to leave.

    A process that saved alone would hang the others in their next collective, so the flags are summed over all. The
    sum of one step is awaited after the next, when it has long arrived: the step is never held up for it. It goes
    through gloo, because a sum through NCCL would make the processor wait for the GPU.
    """

    def __init__(self, request: LeaveRequest) -> None:
        self.has_left = False
        self._request = request
        self._group: Any = None
        self._pending: tuple[Any, Any] | None = None

    def on_train_begin(self, args: Any, _state: Any, _control: Any, **_: Any) -> None:
        """From now on a signal raises the flag only."""
        self._request.has_state = True
        if args.world_size > 1:
            import torch.distributed as dist

            self._group = dist.new_group(backend="gloo")

    def on_step_end(self, _args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop and save when asked; a training that is done anyway ends as done."""
        asked = self._request.is_asked if self._group is None else self._agree()
        if asked and state.global_step < state.max_steps:
            logger.warning("asked to leave after step %d; saving a checkpoint", state.global_step)
            self.has_left = True
            control.should_save = True
            control.should_training_stop = True

    def on_train_end(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        """Take in the last sum, so that none is left open when the processes part."""
        if self._pending is not None:
            self._pending[1].wait()
            self._pending = None

    def _agree(self) -> bool:
        import torch
        import torch.distributed as dist

        asked = False
        if self._pending is not None:
            flag, work = self._pending
            work.wait()
            asked = bool(flag.item())
        flag = torch.tensor([int(self._request.is_asked)], dtype=torch.int32)
        self._pending = (flag, dist.all_reduce(flag, group=self._group, async_op=True))
        return asked
