"""Point: a batched point cloud with the attributes backbones share."""

from typing import Any

import torch
from addict import Dict
from torch import Tensor

from pointins_plugin.errors import BatchError, UserError
from pointins_plugin.ops.sparse_conv import (
    NeighbourMap,
    Size,
    conv_shape,
    strided_map,
    submanifold_map,
)

from .serialization import encode


def offset2bincount(offset: Tensor) -> Tensor:
    """Return the number of points of each cloud from cumulative counts (B,)."""
    return torch.diff(offset, prepend=offset.new_zeros(1))


def bincount2offset(bincount: Tensor) -> Tensor:
    """Return cumulative counts (B,) from the number of points of each cloud."""
    return torch.cumsum(bincount, dim=0)


def offset2batch(offset: Tensor) -> Tensor:
    """Return the cloud of every point (N,) from cumulative counts (B,)."""
    index = torch.arange(len(offset), device=offset.device, dtype=torch.long)
    return torch.repeat_interleave(index, offset2bincount(offset))


def batch2offset(batch: Tensor) -> Tensor:
    """Return cumulative counts (B,) from the cloud of every point (N,)."""
    return torch.cumsum(batch.bincount(), dim=0).long()


class Point(Dict):
    """A batched point cloud as a dictionary with attribute access.

    Keys with a meaning: ``coord`` (N, 3) metres; ``feat`` (N, C); ``offset`` (B,)
    cumulative counts and ``batch`` (N,), each completed from the other, one cloud
    where both are missing; ``grid_coord`` (N, 3) integer cells, or ``grid_size``
    metres to compute them; ``serialized_order`` and ``serialized_inverse`` (K, N)
    after ``serialization``. The Point itself is the sparse tensor of convolutions:
    it keeps their neighbour maps.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if "batch" not in self and "offset" in self:
            self["batch"] = offset2batch(self.offset)
        elif "offset" not in self and "batch" in self:
            self["offset"] = batch2offset(self.batch)

    def serialization(
        self,
        order: str | tuple[str, ...] = "z",
        depth: int | None = None,
        shuffle_orders: bool = False,
    ) -> None:
        """Sort the points along space-filling curves, one row an order.

        Args:
            order: names of curves.
            depth: bits per axis; None takes the least that holds the grid.
            shuffle_orders: permute the orders at random (torch's generator).

        Raises:
            UserError: the batch is empty.
            BatchError: its grid has more than 2^16 cells a side.
        """
        order = [order] if isinstance(order, str) else list(order)
        self["order"] = order
        self._ensure_grid()
        if depth is None:
            depth = int(self.grid_coord.max() + 1).bit_length()
        if depth > 16 or depth * 3 + len(self.offset).bit_length() > 63:
            raise BatchError(
                f"a batch of {len(self.offset)} clouds with a grid of 2^{depth} cells "
                "a side is too large to serialize (2^16, and 63 bits in all): use a "
                "larger grid_size or crop the clouds"
            )
        self["serialized_depth"] = depth
        code = torch.stack(
            [encode(self.grid_coord, self.batch, depth, name) for name in order]
        )
        if shuffle_orders:
            code = code[torch.randperm(len(code))]
        # Stable: points of one cell keep their order on every device.
        index = torch.argsort(code, dim=1, stable=True)
        rank = torch.arange(code.shape[1], device=code.device).expand_as(index)
        self["serialized_code"] = code
        self["serialized_order"] = index
        self["serialized_inverse"] = torch.empty_like(index).scatter_(1, index, rank)

    def sparsify(self, pad: int = 96) -> None:
        """Record the extent of the grid; neighbour maps are built when asked for."""
        self._ensure_grid()
        if "sparse_shape" not in self:
            self["sparse_shape"] = (self.grid_coord.max(dim=0).values + pad).tolist()

    def submanifold(self, kernel_size: Size, indice_key: str | None) -> NeighbourMap:
        """Return the neighbour map of a kernel, built once for each key."""
        self._ensure_grid()
        key = f"pairs_{indice_key}_{kernel_size}"
        if indice_key is None or key not in self:
            pairs = submanifold_map(self.grid_coord, self.batch, kernel_size)
            if indice_key is None:
                return pairs
            self[key] = pairs
        return self[key]

    def strided(
        self, kernel_size: Size, stride: Size, padding: Size, indice_key: str | None
    ) -> tuple["Point", NeighbourMap]:
        """Return the coarser Point of a strided convolution and the map to it.

        With an ``indice_key`` the coarser Point is linked to this one.
        """
        self.sparsify()
        shape = self.sparse_shape
        pairs, grid, batch = strided_map(
            self.grid_coord, self.batch, kernel_size, stride, padding, shape
        )
        shape = conv_shape(shape, kernel_size, stride, padding)
        coarse = self.coarsened(grid, batch, shape)
        coarse.link(self, indice_key, pairs)
        return coarse, pairs

    def coarsened(self, grid_coord: Tensor, batch: Tensor, shape: list[int]) -> "Point":
        """Return a Point of other voxels of the same clouds, without features."""
        count = torch.bincount(batch, minlength=len(self.offset))
        return Point(
            grid_coord=grid_coord,
            batch=batch,
            offset=bincount2offset(count),
            sparse_shape=shape,
        )

    def link(
        self, fine: "Point", indice_key: str | None, pairs: NeighbourMap | None = None
    ) -> None:
        """Remember the finer Point that an inverse convolution returns to."""
        if indice_key is not None:
            # Assigned, not passed: the constructor would copy a nested Point.
            self[f"fine_{indice_key}"] = fine
            self[f"fine_pairs_{indice_key}"] = pairs

    def linked(self, indice_key: str) -> tuple["Point", NeighbourMap | None]:
        """Return the finer Point of a key and the map from it."""
        if f"fine_{indice_key}" not in self:
            raise KeyError(
                f"inverse convolution: no strided convolution of indice_key "
                f"{indice_key!r} has made this Point"
            )
        return self[f"fine_{indice_key}"], self[f"fine_pairs_{indice_key}"]

    def _ensure_grid(self) -> None:
        if "grid_coord" not in self:
            if not {"grid_size", "coord"} <= self.keys():
                raise UserError(
                    "Point: a batch needs grid_coord, or coord and grid_size: collect "
                    "them in the last transform"
                )
            low = self.coord.amin(0) if len(self.coord) else 0
            cell = torch.div(self.coord - low, self.grid_size, rounding_mode="trunc")
            self["grid_coord"] = cell.int()
        if not len(self.grid_coord):
            raise UserError("Point: the batch holds no points: check the data's crops")
        if "batch" not in self:
            self["batch"] = torch.zeros_like(self.grid_coord[:, 0]).long()
            self["offset"] = batch2offset(self.batch)
