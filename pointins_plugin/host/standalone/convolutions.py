"""Sparse convolutions on a Point: spconv's names, parameters and weight layout.

On CUDA they run by spconv or spconv-triton where one of them is installed, elsewhere
by the plain PyTorch of ``ops.sparse_conv``; checkpoints do not notice.
"""

import importlib
import math
from functools import cache
from types import ModuleType

import torch
import torch.nn as nn
from torch import Tensor

from pointins_plugin.ops.sparse_conv import Size, sparse_conv, triple

from .logger import get_root_logger
from .modules import PointModule
from .point import Point


@cache
def _spconv() -> ModuleType | None:
    """Import spconv's PyTorch side, say which one it is; None without any."""
    for name in ("spconv", "spconv_triton"):
        try:
            module = importlib.import_module(f"{name}.pytorch")
        except Exception as error:  # a build for another CUDA fails in its own ways
            if not isinstance(error, ModuleNotFoundError):
                get_root_logger().warning(f"{name} is installed but broken: {error}")
            continue
        get_root_logger().info(f"sparse convolution on CUDA: {name}")
        return module
    get_root_logger().info(
        "sparse convolution on CUDA: plain PyTorch (pip install spconv-triton, or "
        "spconv-cu120 where its wheels fit, is faster)"
    )
    return None


def library_for(device: torch.device) -> ModuleType | None:
    """Return the module with spconv's layers for a device, None for plain PyTorch.

    The CPU kernels of spconv 2.3.8 race on more than one thread: never used there.
    """
    return _spconv() if device.type == "cuda" else None


class SparseConvolution(PointModule):
    """What the sparse convolutions share: parameters, initial values, libraries.

    Args:
        in_channels, out_channels, kernel_size, bias: as in spconv. The weight is
            (out_channels, kx, ky, kz, in_channels).
        indice_key: layers of one key share the neighbour map of a Point.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        bias: bool = True,
        indice_key: str | None = None,
    ):
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = triple(kernel_size)
        self.indice_key = indice_key
        shape = (out_channels, *self.kernel_size, in_channels)
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        bound = 1 / math.sqrt(in_channels * math.prod(self.kernel_size))
        nn.init.uniform_(self.weight, -bound, bound)
        if bias:
            nn.init.uniform_(self.bias, -bound, bound)
        self._layer: list[nn.Module] = []  # in a list: no submodule of this one

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, {self.kernel_size}, "
            f"bias={self.bias is not None}, indice_key={self.indice_key!r}"
        )

    def _options(self) -> dict:
        """Return the keywords of spconv's class of the same name."""
        return {
            "kernel_size": list(self.kernel_size),
            "bias": self.bias is not None,
            "indice_key": self.indice_key,
        }

    def _by_library(self, library: ModuleType, point: Point):
        """Run a Point's features through the library; return its sparse tensor."""
        if not self._layer:
            layer = getattr(library, type(self).__name__)
            self._layer.append(
                layer(self.in_channels, self.out_channels, **self._options())
            )
        layer = self._layer[0].train(self.training)
        layer.weight, layer.bias = self.weight, self.bias
        if "sparse_conv_feat" in point:
            tensor = point.sparse_conv_feat.replace_feature(point.feat)
        else:
            point.sparsify()
            indices = torch.cat([point.batch[:, None], point.grid_coord], dim=1)
            tensor = library.SparseConvTensor(
                point.feat, indices.int(), point.sparse_shape, len(point.offset)
            )
        return layer(tensor)

    def _convolve(self, feat: Tensor, pairs) -> Tensor:
        return sparse_conv(feat, self.weight, self.bias, pairs)


class SubMConv3d(SparseConvolution):
    """Submanifold convolution: outputs at the input voxels only.

    ``stride`` and ``padding`` are taken and unused, as in spconv. A kernel of one cell
    reads its (out, 1, 1, 1, in) weight as if it lay in memory as (in, out), again as
    in spconv, so that checkpoints mean the same.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size = 3,
        stride: Size = 1,
        padding: Size = 0,
        bias: bool = True,
        indice_key: str | None = None,
    ):
        super().__init__(in_channels, out_channels, kernel_size, bias, indice_key)

    def forward(self, point: Point) -> Point:
        library = library_for(point.feat.device)
        if math.prod(self.kernel_size) == 1:
            matrix = self.weight.view(self.in_channels, self.out_channels)
            point.feat = nn.functional.linear(point.feat, matrix.t(), self.bias)
        elif library is not None:
            tensor = self._by_library(library, point)
            point["sparse_conv_feat"], point.feat = tensor, tensor.features
        else:
            pairs = point.submanifold(self.kernel_size, self.indice_key)
            point.feat = self._convolve(point.feat, pairs)
        return point


class SparseConv3d(SparseConvolution):
    """Strided convolution: returns a coarser Point, which remembers the finer one.

    Args:
        stride, padding: as in ``torch.nn.Conv3d``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size = 3,
        stride: Size = 1,
        padding: Size = 0,
        bias: bool = True,
        indice_key: str | None = None,
    ):
        super().__init__(in_channels, out_channels, kernel_size, bias, indice_key)
        self.stride, self.padding = triple(stride), triple(padding)

    def _options(self) -> dict:
        strided = {"stride": list(self.stride), "padding": list(self.padding)}
        return super()._options() | strided

    def forward(self, point: Point) -> Point:
        library = library_for(point.feat.device)
        if library is None:
            coarse, pairs = point.strided(
                self.kernel_size, self.stride, self.padding, self.indice_key
            )
            coarse.feat = self._convolve(point.feat, pairs)
            return coarse
        tensor = self._by_library(library, point)
        batch, grid = tensor.indices.long().split([1, 3], dim=1)
        coarse = point.coarsened(grid, batch.squeeze(1), tensor.spatial_shape)
        coarse.link(point, self.indice_key)
        coarse["sparse_conv_feat"], coarse.feat = tensor, tensor.features
        return coarse


class SparseInverseConv3d(SparseConvolution):
    """Undo a strided convolution's change of resolution, by the pairs of its key.

    Returns the finer Point itself with new features: keep its old ones before.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        indice_key: str,
        bias: bool = True,
    ):
        super().__init__(in_channels, out_channels, kernel_size, bias, indice_key)

    def forward(self, point: Point) -> Point:
        library = library_for(point.feat.device)
        fine, pairs = point.linked(self.indice_key)
        if library is None:
            fine.feat = self._convolve(point.feat, pairs.reversed)
        else:
            tensor = self._by_library(library, point)
            fine["sparse_conv_feat"], fine.feat = tensor, tensor.features
        return fine
