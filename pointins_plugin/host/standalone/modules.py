"""Modules that take and return a Point."""

from collections import OrderedDict
from typing import Any

import torch.nn as nn

from pointins_plugin.ops.sparse_conv import sparse_conv

from .hooks import HookBase
from .point import Point


class PointModule(nn.Module):
    """A module whose forward takes a Point."""


class PointModel(PointModule, HookBase):
    """A model that ``ModelHook`` also forwards the trainer's events to."""


class PointSequential(PointModule):
    """A sequence in which Point modules see the Point and others its features."""

    def __init__(self, *args: nn.Module, **kwargs: nn.Module):
        super().__init__()
        if len(args) == 1 and isinstance(args[0], OrderedDict):
            kwargs, args = {**args[0], **kwargs}, ()
        for module in args:
            self.add(module)
        for name, module in kwargs.items():
            self.add(module, name)

    def __getitem__(self, index: int) -> nn.Module:
        return list(self._modules.values())[index]

    def __len__(self) -> int:
        return len(self._modules)

    def add(self, module: nn.Module, name: str | None = None) -> None:
        """Append a module under a name, its position by default."""
        name = str(len(self._modules)) if name is None else name
        if name in self._modules:
            raise KeyError(f"a module named {name!r} is already there")
        self.add_module(name, module)

    def forward(self, point: Any) -> Any:
        for module in self._modules.values():
            if isinstance(module, PointModule) or not isinstance(point, Point):
                point = module(point)
            else:
                point.feat = module(point.feat)
        return point


class SubMConv3d(PointModule):
    """Submanifold 3-D convolution, with spconv's weight layout and names.

    Args:
        in_channels, out_channels, kernel_size, bias: as in spconv.
        indice_key: layers of one key share the neighbour map of a Point.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        bias: bool = True,
        indice_key: str | None = None,
    ):
        super().__init__()
        self.kernel_size = kernel_size
        self.indice_key = indice_key
        edge = (kernel_size,) * 3
        weight = nn.Conv3d(in_channels, out_channels, kernel_size, bias=bias)
        self.weight = nn.Parameter(
            weight.weight.detach().permute(0, 2, 3, 4, 1).contiguous()
        )
        assert self.weight.shape == (out_channels, *edge, in_channels)
        self.bias = nn.Parameter(weight.bias.detach().clone()) if bias else None

    def forward(self, point: Point) -> Point:
        pairs = point.submanifold(self.kernel_size, self.indice_key)
        point.feat = sparse_conv(point.feat, self.weight, self.bias, pairs)
        return point
