"""Models that follow a run: schedules that move, teachers that are averaged."""

from typing import Any

import torch.nn as nn

from pointins_plugin.errors import UserError
from pointins_plugin.host import HOOKS, PointModel


class ScheduledModel(PointModel):
    """A model with schedules and, if it has a teacher, its averaging.

    In a run ``ModelHook`` forwards the trainer's events to it, and the hook
    ``EMATeacherHook`` averages ``ema_pairs()``; where none is listed the model does so
    itself if it was given a momentum. A loop of one's own calls ``set_progress`` before
    each step and averages ``ema_pairs()`` after it.

    Args:
        momentum_base, momentum_final: of the teacher, along a cosine; None for the
            first leaves it to the hook.
    """

    def __init__(self, momentum_base: float | None = None, momentum_final: float = 1.0):
        super().__init__()
        self.momentum = (momentum_base, momentum_final)
        self.progress: float | None = None
        self._averaging: Any = None

    def ema_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Return the (student, teacher) modules to average."""
        return []

    def set_progress(self, progress: float) -> None:
        """Move every schedule to ``progress`` in [0, 1] of training."""
        self.progress = min(max(progress, 0.0), 1.0)

    def before_train(self) -> None:
        """See to it that the teacher is averaged (called by ``ModelHook``)."""
        hooks = self.trainer.hooks
        if not self.ema_pairs() or any(hasattr(h, "averages_teacher") for h in hooks):
            return
        base, final = self.momentum
        if base is None:
            raise UserError(
                f"config: model {type(self).__name__} has a teacher that no hook "
                'averages; add dict(type="EMATeacherHook") to hooks, or momentum_base '
                "to the model"
            )
        self._averaging = HOOKS.build(
            {"type": "EMATeacherHook", "momentum_base": base, "momentum_final": final}
        )
        self._averaging.trainer = self.trainer
        self._averaging.before_train()

    def before_step(self) -> None:
        """Follow the optimizer's steps (called by ``ModelHook``)."""
        scheduler = self.trainer.scheduler
        total = self.trainer.cfg.scheduler.total_steps
        self.set_progress(scheduler.last_epoch / max(total, 1))

    def after_step(self) -> None:
        """Average the teacher where no hook does (called by ``ModelHook``)."""
        if self._averaging is not None:
            self._averaging.after_step()
