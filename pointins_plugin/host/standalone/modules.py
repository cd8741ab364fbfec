"""Modules that take and return a Point."""

from collections import OrderedDict
from typing import Any

import torch.nn as nn

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
