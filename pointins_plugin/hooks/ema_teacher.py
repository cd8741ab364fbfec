"""Averaging teachers: an exponential moving average of students, step by step."""

import math

import torch
import torch.nn as nn

from pointins_plugin.errors import UserError
from pointins_plugin.hooks.norms import batch_norms
from pointins_plugin.host import HOOKS, HookBase, unwrapped, write_scalars


def cosine_momentum(base: float, final: float, step: int, total_steps: int) -> float:
    """Return the momentum of optimizer step ``step`` (from 0) of a cosine schedule."""
    progress = min(step / max(total_steps, 1), 1.0)
    return final + 0.5 * (base - final) * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def update_teacher(
    student: nn.Module, teacher: nn.Module, momentum: float, own_norms: bool = False
) -> None:
    """Move a teacher towards its student: ``t = m t + (1 - m) s``.

    Parameters are averaged in float32 whatever they are stored in, because the step
    ``1 - m`` is below the resolution of half precision; buffers (running statistics,
    counters) are copied, those of batch norms not if they are the teacher's own.

    Raises:
        UserError: the two do not have the same parameters or buffers.
    """
    pairs = {}
    for kind in ("named_parameters", "named_buffers"):
        own = dict(getattr(student, kind)())
        other = dict(getattr(teacher, kind)())
        if own.keys() != other.keys():
            odd = sorted(own.keys() ^ other.keys())[0]
            raise UserError(
                f"EMATeacherHook: student and teacher differ at {odd!r}; build both "
                "from the same config"
            )
        pairs[kind] = [(other[name], own[name]) for name in other]
    exact = [pair for pair in pairs["named_parameters"] if pair[0].dtype.itemsize >= 4]
    if exact:
        targets, sources = zip(*exact, strict=True)
        torch._foreach_lerp_(list(targets), list(sources), 1 - momentum)
    for target, source in pairs["named_parameters"]:
        if target.dtype.itemsize < 4:
            target.copy_(torch.lerp(target.float(), source.float(), 1 - momentum))
    kept = set(batch_norms(teacher)) if own_norms else set()
    names = dict(teacher.named_buffers())
    for name, (target, source) in zip(names, pairs["named_buffers"], strict=True):
        if name.rpartition(".")[0] not in kept:
            target.copy_(source)


@HOOKS.register_module()
class EMATeacherHook(HookBase):
    """Average teachers after every real optimizer step.

    A model says what to average: ``ema_pairs() -> [(student, teacher), ...]``.
    Micro-batches of gradient accumulation and steps skipped by mixed precision do not
    count: a step is real when the learning-rate scheduler moved. The momentum is a
    function of that count, which the scheduler's state keeps, so that a resumed run
    goes on where it stopped. Teachers stay in evaluation mode, but for norms of their
    own.

    Args:
        momentum_base: momentum of the first step.
        momentum_final: momentum at the end of the schedule, along a cosine.
        own_norms: teachers' batch norms normalize by their own batches and keep their
            own running statistics, as in BYOL. By default they take the student's and
            normalize by them: at the host's momentum of .01 these are far behind for
            some 300 steps, and they are those of other weights always.

    Raises:
        UserError: a momentum outside [0, 1]; before training, if the model names no
            pairs; at a step, if student and teacher differ in more than values.

    Source: Sonata's schedule (.994 to 1).
    """

    averages_teacher = True

    def __init__(
        self,
        momentum_base: float = 0.994,
        momentum_final: float = 1.0,
        own_norms: bool = False,
    ):
        for name, value in (
            ("momentum_base", momentum_base),
            ("momentum_final", momentum_final),
        ):
            if not 0 <= value <= 1:
                raise UserError(f"EMATeacherHook: {name}={value} is not in [0, 1]")
        self.momentum_base = momentum_base
        self.momentum_final = momentum_final
        self.own_norms = own_norms
        self._pairs: list[tuple[nn.Module, nn.Module]] = []
        self._step = 0

    def before_train(self) -> None:
        model = unwrapped(self.trainer.model)
        if not hasattr(model, "ema_pairs") or not model.ema_pairs():
            raise UserError(
                f"EMATeacherHook: model {type(model).__name__} names no pairs to "
                "average; give it ema_pairs() -> [(student, teacher), ...] or remove "
                "the hook"
            )
        self._pairs = model.ema_pairs()
        self._step = self._real_steps()
        self._rest_teachers()

    def before_epoch(self) -> None:
        self._rest_teachers()

    def after_step(self) -> None:
        steps = self._real_steps()
        if steps == self._step:
            return
        self._step = steps
        momentum = self.momentum(steps - 1)
        for student, teacher in self._pairs:
            update_teacher(student, teacher, momentum, self.own_norms)
        write_scalars(self.trainer, {"params/momentum": momentum}, "Step", steps)

    def momentum(self, step: int) -> float:
        """Return the momentum of optimizer step ``step``, counted from 0."""
        total = self.trainer.cfg.scheduler.total_steps
        return cosine_momentum(self.momentum_base, self.momentum_final, step, total)

    def _real_steps(self) -> int:
        return self.trainer.scheduler.last_epoch

    def _rest_teachers(self) -> None:
        for _, teacher in self._pairs:
            teacher.eval()
            teacher.requires_grad_(False)
            if self.own_norms:
                for norm in batch_norms(teacher).values():
                    norm.train()
