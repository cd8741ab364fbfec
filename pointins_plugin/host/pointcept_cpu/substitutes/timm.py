"""The two parts of timm.layers that Pointcept's backbones are made of."""

import torch.nn as nn
from torch.nn.init import trunc_normal_

__all__ = ["DropPath", "trunc_normal_"]


class DropPath(nn.Module):
    """Drop whole rows of a residual branch in training (stochastic depth).

    Args:
        drop_prob: share of rows dropped.
        scale_by_keep: divide the kept ones by their share, which keeps the mean.
    """

    def __init__(self, drop_prob: float = 0.0, scale_by_keep: bool = True):
        super().__init__()
        self.drop_prob = drop_prob
        self.scale_by_keep = scale_by_keep

    def forward(self, x):
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep = 1 - self.drop_prob
        mask = x.new_empty((len(x),) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        if keep > 0 and self.scale_by_keep:
            mask.div_(keep)
        return x * mask

    def extra_repr(self) -> str:
        return f"drop_prob={self.drop_prob:.3f}"
