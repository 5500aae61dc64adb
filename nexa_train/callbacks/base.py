"""The Trainer's callback, the one place where ours meets a class that is not typed."""

from __future__ import annotations

from transformers.trainer_callback import TrainerCallback


class Callback(TrainerCallback):  # type: ignore[misc]
    """A callback whose hooks do nothing; a subclass writes those it needs, and changes `control` in place.

    The Trainer passes args, state and control by position. Within a step comes on_step_end; then, where asked for,
    on_log, on_evaluate, the writing of the checkpoint, and on_save.
    """
