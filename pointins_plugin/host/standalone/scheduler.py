"""Schedules of single values and of learning rates."""

import math
from typing import Any

import torch.optim.lr_scheduler as torch_schedulers
from torch.optim import Optimizer

from pointins_plugin.errors import UserError

from .logger import get_root_logger
from .registry import SCHEDULERS


@SCHEDULERS.register_module()
class CosineScheduler:
    """A value that warms up linearly and then follows half a cosine.

    Args:
        base_value: value after the warm-up.
        final_value: value at the end.
        total_iters: steps in all.
        start_value: value at the first step of the warm-up.
        warmup_iters: steps of the warm-up.
        freeze_value: value of the last ``freeze_iters`` steps, the final one if None.

    ``step()`` returns the value of the current step and moves on; ``iter`` is the
    current step and may be set to resume.
    """

    def __init__(
        self,
        base_value: float,
        final_value: float,
        total_iters: int,
        start_value: float = 0,
        warmup_iters: int = 0,
        freeze_value: float | None = None,
        freeze_iters: int = 0,
    ):
        self.base_value = base_value
        self.final_value = final_value
        self.total_iters = total_iters
        self.start_value = start_value
        self.warmup_iters = warmup_iters
        self.freeze_value = final_value if freeze_value is None else freeze_value
        self.freeze_iters = freeze_iters
        self.iter = 0

    def get(self, step: int) -> float:
        """Return the value at a step, the final one from ``total_iters`` on."""
        if step >= self.total_iters:
            return self.final_value
        if step < self.warmup_iters:
            # the warm-up's last step reaches the base value
            span = max(self.warmup_iters - 1, 1)
            rise = (self.base_value - self.start_value) * step / span
            return self.start_value + rise
        if step >= self.total_iters - self.freeze_iters:
            return self.freeze_value
        length = self.total_iters - self.warmup_iters - self.freeze_iters
        angle = math.pi * (step - self.warmup_iters) / length
        swing = 0.5 * (self.base_value - self.final_value)
        return self.final_value + swing * (1 + math.cos(angle))

    def step(self) -> float:
        """Return the current value and move on by one step."""
        value = self.get(self.iter)
        self.iter += 1
        return value

    def reset(self) -> None:
        """Go back to the first step."""
        self.iter = 0

    def __getitem__(self, step: int) -> float:
        return self.get(step)


def _register(build):
    SCHEDULERS.register_module(build.__name__)(build)
    return build


@_register
def MultiStepLR(
    optimizer: Optimizer,
    milestones: list[float],
    total_steps: int,
    gamma: float = 0.1,
    last_epoch: int = -1,
):
    """Multiply by gamma at shares ``milestones`` of the schedule."""
    return torch_schedulers.MultiStepLR(
        optimizer,
        milestones=[int(share * total_steps) for share in milestones],
        gamma=gamma,
        last_epoch=last_epoch,
    )


@_register
def MultiStepWithWarmupLR(
    optimizer: Optimizer,
    milestones: list[float],
    total_steps: int,
    gamma: float = 0.1,
    warmup_rate: float = 0.05,
    warmup_scale: float = 1e-6,
    last_epoch: int = -1,
):
    """Warm up linearly, then multiply by gamma at shares of the schedule."""
    steps = [share * total_steps for share in milestones]
    warmup = warmup_rate * total_steps

    def factor(step: int) -> float:
        scale = 1.0
        if warmup and step < warmup:
            scale = warmup_scale + (1 - warmup_scale) * step / warmup
        return scale * gamma ** sum(step >= s for s in steps)

    return torch_schedulers.LambdaLR(optimizer, factor, last_epoch)


@_register
def PolyLR(
    optimizer: Optimizer, total_steps: int, power: float = 0.9, last_epoch: int = -1
):
    """Fall to zero as ``(1 - step / total)^power``."""

    def factor(step: int) -> float:
        return (1 - min(step, total_steps) / (total_steps + 1)) ** power

    return torch_schedulers.LambdaLR(optimizer, factor, last_epoch)


@_register
def ExpLR(
    optimizer: Optimizer, total_steps: int, gamma: float = 0.9, last_epoch: int = -1
):
    """Fall by ``gamma^(step / total)``."""
    return torch_schedulers.LambdaLR(
        optimizer, lambda step: gamma ** (step / total_steps), last_epoch
    )


@_register
def CosineAnnealingLR(
    optimizer: Optimizer, total_steps: int, eta_min: float = 0, last_epoch: int = -1
):
    """Fall along half a cosine to ``eta_min``."""
    return torch_schedulers.CosineAnnealingLR(
        optimizer, T_max=total_steps, eta_min=eta_min, last_epoch=last_epoch
    )


@_register
def OneCycleLR(
    optimizer: Optimizer,
    max_lr: float | list[float],
    total_steps: int,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    cycle_momentum: bool = True,
    base_momentum: float = 0.85,
    max_momentum: float = 0.95,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
    last_epoch: int = -1,
):
    """Rise to ``max_lr`` over ``pct_start`` of the schedule, then fall.

    Raises:
        UserError: ``max_lr`` is no number of 0 or more, nor a list of one a group.
    """
    groups = len(optimizer.param_groups)
    rates = max_lr if isinstance(max_lr, (list, tuple)) else [max_lr] * groups
    if len(rates) != groups:
        raise UserError(
            f"config: scheduler.max_lr has {len(rates)} rates for {groups} groups of "
            "parameters; give one, or one for the rest and one for each of param_dicts"
        )
    if not all(isinstance(rate, (int, float)) and rate >= 0 for rate in rates):
        raise UserError(
            f"config: scheduler.max_lr={max_lr!r}; rates are numbers of 0 or more"
        )
    own = {group["lr"] for group in optimizer.param_groups}
    if rates is not max_lr and len(own) > 1:
        get_root_logger().warning(
            f"scheduler.max_lr={max_lr} holds for all parameters: the rates of "
            f"param_dicts have no effect; give max_lr a list of {groups}"
        )
    # torch divides by the length of a phase minus one step, which is zero where the
    # rise is one step long.
    if abs(pct_start * total_steps - 1) < 1e-6:
        pct_start += 1e-3 / total_steps if total_steps > 1 else -1e-3
    return torch_schedulers.OneCycleLR(
        optimizer,
        max_lr=max_lr,
        total_steps=total_steps,
        pct_start=pct_start,
        anneal_strategy=anneal_strategy,
        cycle_momentum=cycle_momentum,
        base_momentum=base_momentum,
        max_momentum=max_momentum,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
        three_phase=three_phase,
        last_epoch=last_epoch,
    )


def build_scheduler(cfg: dict, optimizer: Optimizer) -> Any:
    """Build a learning-rate scheduler; ``last_epoch`` counts optimizer steps."""
    return SCHEDULERS.build(dict(cfg), optimizer=optimizer)
