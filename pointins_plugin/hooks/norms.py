"""Batch norms in runs of few steps."""

from collections.abc import Callable, Iterable
from typing import Any

import torch.nn as nn

from pointins_plugin.errors import UserError
from pointins_plugin.host import HOOKS, HookBase


@HOOKS.register_module()
class NormMomentum(HookBase):
    """Let the running statistics of batch norms follow the data faster.

    Heads and backbones of the host average them over a hundred steps: after n steps
    the starting values, mean 0 and variance 1, still count .99^n. Features of small
    variance are then scaled wrongly in evaluation, and in a run of some hundred steps
    that, not what the network knows, decides the score.

    Args:
        momentum: share of a new batch in the running statistics.
    """

    def __init__(self, momentum: float = 0.1):
        if not 0 < momentum <= 1:
            raise UserError(
                f"config: NormMomentum momentum={momentum}; give a share in (0, 1]"
            )
        self.momentum = momentum

    def before_train(self) -> None:
        for norm in batch_norms(self.trainer.model).values():
            norm.momentum = self.momentum


def batch_norms(model: nn.Module) -> dict[str, nn.Module]:
    """Return the batch norms of a model, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    }


def recalibrate(model: nn.Module, passes: Iterable[Callable[[], Any]]) -> None:
    """Take the running statistics of a model's batch norms anew.

    Args:
        model: whose batch norms are meant; the rest of it stays as it is.
        passes: each, called, runs the model on a batch. The statistics are the mean of
            those of the batches. Not called where there is no batch norm.
    """
    norms = list(batch_norms(model).values())
    if not norms:
        return
    before = [(norm.momentum, norm.training) for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean of all
            norm.train()
        for run in passes:
            run()
    finally:
        for norm, (momentum, training) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.train(training)
