"""Pointcept's two backbones alone, on CPU, for comparisons.

Importing ``pointcept.models`` asks for every requirement of every model. PT-v3m2 and
SpUNet-v1m1 need spconv, and of timm, torch-scatter and torch-geometric one small
function each: where those are not installed, stand-ins of the same effect take their
place. The convolutions are spconv's own.
"""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
import torch.nn as nn
from torch import Tensor

PT_V3M2 = "point_transformer_v3.point_transformer_v3m2_sonata"
SPUNET = "sparse_unet.spconv_unet_v1m1_base"


def load() -> SimpleNamespace | None:
    """Return Pointcept's ``PointTransformerV3`` and ``SpUNetBase``; None without it.

    Needs spconv and ``POINTCEPT_ROOT``, the folder of a checkout.
    """
    root = os.environ.get("POINTCEPT_ROOT")
    if not root or importlib.util.find_spec("spconv") is None:
        return None
    sys.path.insert(0, root)
    _mend_spconv()
    _stand_in("timm", layers={"DropPath": _DropPath, "trunc_normal_": _trunc_normal_})
    _stand_in("torch_scatter", segment_csr=_segment_csr)
    _stand_in("torch_geometric", utils={"scatter": _scatter})
    models = Path(root) / "pointcept" / "models"
    # Packages without their __init__, which would import all the rest.
    _package("pointcept.models", models)
    for name in (PT_V3M2, SPUNET):
        folder = name.split(".")[0]
        _package(f"pointcept.models.{folder}", models / folder)
    _package("pointcept.engines", models.parent / "engines")
    _module("pointcept.engines.hooks", HookBase=type("HookBase", (), {}))
    transformer = importlib.import_module(f"pointcept.models.{PT_V3M2}")
    unet = importlib.import_module(f"pointcept.models.{SPUNET}")
    return SimpleNamespace(
        PointTransformerV3=transformer.PointTransformerV3, SpUNetBase=unet.SpUNetBase
    )


def _mend_spconv() -> None:
    """Its CPU backward asks for a CUDA stream."""
    import spconv.pytorch.ops as ops

    if not torch.cuda.is_available():
        ops.get_current_stream = lambda: 0


def _module(name: str, **attributes) -> ModuleType:
    module = sys.modules[name] = ModuleType(name)
    vars(module).update(attributes)
    return module


def _package(name: str, folder: Path) -> None:
    _module(name, __path__=[str(folder)])


def _stand_in(name: str, **attributes) -> None:
    """Put a module with these attributes, or submodules, where there is none."""
    if importlib.util.find_spec(name) is not None:
        return
    module = _module(name, __path__=[])
    for key, value in attributes.items():
        if isinstance(value, dict):
            value = _module(f"{name}.{key}", **value)
        setattr(module, key, value)


_trunc_normal_ = nn.init.trunc_normal_


class _DropPath(nn.Module):
    """Stochastic depth, a draw for each row."""

    def __init__(self, drop_prob: float = 0.0):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.drop_prob == 0:
            return x
        keep = 1 - self.drop_prob
        return x * x.new_empty(len(x), 1).bernoulli_(keep).div_(keep)


def _segment_csr(src: Tensor, indptr: Tensor, reduce: str = "sum") -> Tensor:
    return torch.segment_reduce(src, reduce, offsets=indptr, axis=0)


def _scatter(src: Tensor, index: Tensor, dim: int = 0, reduce: str = "sum") -> Tensor:
    count = torch.bincount(index)
    total = src.new_zeros(len(count), src.shape[1]).index_add(dim, index, src)
    return total / count[:, None].clamp(min=1) if reduce == "mean" else total
