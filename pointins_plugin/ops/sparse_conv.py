"""Sparse convolution on voxels: neighbour maps and gather-GEMM-sum in PyTorch.

A neighbour map lists, kernel cell by kernel cell, the (input, output) pairs of
voxels it connects; it is built once per resolution and shared by every layer of it,
forward and backward. Every output sums its pairs in a fixed order, without atomics,
so that threads cannot race.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from pointins_plugin.errors import UserError

# Bits of an axis in a packed key. Cells keep clear of the field's border, so that a
# kernel's step never carries into the next axis; 12 bits are left for the cloud.
_FIELD = 17
_MARGIN = 1 << 8
MAX_CELL = (1 << _FIELD) - 2 * _MARGIN
MAX_CLOUDS = 1 << (63 - 3 * _FIELD)


@dataclass(frozen=True)
class NeighbourMap:
    """Pairs of input and output voxels connected by a kernel.

    Attributes:
        source: (P,) input voxel of every pair, pairs sorted by kernel cell.
        target: (P,) output voxel of every pair.
        sizes: number of pairs of each kernel cell, in the kernel's memory order.
        num_inputs, num_outputs: voxels on either side.
        identity: the kernel cell that maps every voxel to itself, which is left out
            of the pairs; None where there is none.
    """

    source: Tensor
    target: Tensor
    sizes: list[int]
    num_inputs: int
    num_outputs: int
    identity: int | None = None

    @cached_property
    def bags(self) -> tuple[Tensor, Tensor]:
        """Pairs sorted by output (P,) and where each output's pairs begin (N_out,)."""
        count = torch.bincount(self.target, minlength=self.num_outputs)
        return torch.argsort(self.target, stable=True), torch.cumsum(count, 0) - count

    @cached_property
    def reversed(self) -> "NeighbourMap":
        """The same pairs from outputs to inputs: gradients and inverse convolution."""
        return NeighbourMap(
            source=self.target,
            target=self.source,
            sizes=self.sizes,
            num_inputs=self.num_outputs,
            num_outputs=self.num_inputs,
            identity=self.identity,
        )


def pack_voxels(grid_coord: Tensor, batch: Tensor) -> Tensor:
    """Pack cloud and cell into one sortable key (N,), axis x above y above z.

    Raises:
        UserError: a cell is negative or beyond ``MAX_CELL``, or there are more than
            ``MAX_CLOUDS`` clouds.
    """
    if len(grid_coord):
        low, high = torch.aminmax(grid_coord)
        low, high, clouds = torch.stack([low, high, batch.max().to(low)]).tolist()
        if low < 0 or high >= MAX_CELL or clouds >= MAX_CLOUDS:
            raise UserError(
                f"sparse convolution: cells run from {low} to {high} in "
                f"{clouds + 1} clouds, supported are 0 to {MAX_CELL - 1} in "
                f"{MAX_CLOUDS}: use a larger grid_size or crop the cloud"
            )
    x, y, z = (grid_coord.long() + _MARGIN).unbind(dim=1)
    return ((batch.long() << _FIELD | x) << _FIELD | y) << _FIELD | z


@torch.no_grad()
def submanifold_map(
    grid_coord: Tensor, batch: Tensor, kernel_size: int = 3
) -> NeighbourMap:
    """Build the map of a submanifold convolution: outputs at the input voxels only.

    Args:
        grid_coord: (N, 3) integer cells in [0, ``MAX_CELL``).
        batch: (N,) cloud of every voxel.
        kernel_size: odd edge of the kernel.

    Points that share a cell are read by their neighbours through the first of them
    (lowest index), and each reads itself through the kernel's centre: the result does
    not depend on the order in which a hash table was filled.
    """
    num = len(grid_coord)
    keys, cell = torch.unique(pack_voxels(grid_coord, batch), return_inverse=True)
    table = _cell_neighbours(keys, kernel_size)
    if len(keys) < num:
        index = torch.arange(num, device=keys.device)
        first = index.new_full((len(keys),), num)
        first.scatter_reduce_(0, cell, index, "amin")
    else:
        first = torch.empty_like(cell)
        first[cell] = torch.arange(num, device=keys.device)
    neighbour = table.index_select(1, cell)
    step, target = torch.nonzero(neighbour >= 0, as_tuple=True)
    return NeighbourMap(
        source=first[neighbour[step, target]],
        target=target,
        sizes=torch.bincount(step, minlength=len(table)).tolist(),
        num_inputs=num,
        num_outputs=num,
        identity=len(table) // 2,
    )


def _cell_neighbours(keys: Tensor, kernel_size: int) -> Tensor:
    """Return (k^3, U): the occupied cell at every kernel step, -1 where there is none.

    Of two opposite steps one is looked up and the other mirrored. Along z occupied
    cells follow each other in the sorted keys, so a column costs one search. The
    centre is left at -1.
    """
    half = kernel_size // 2
    table = keys.new_full((kernel_size**3, len(keys)), -1)
    if not len(keys):
        return table
    last = len(keys) - 1
    here = torch.arange(len(keys), device=keys.device)
    step = kernel_size**3 // 2 + 1
    for dx in range(half + 1):
        for dy in range(-half if dx else 0, half + 1):
            shift = (dx << 2 * _FIELD) + (dy << _FIELD)
            first_dz = -half if dx or dy else 1
            if dx or dy:
                place = torch.searchsorted(keys, keys + (shift + first_dz))
            else:
                place = here + 1
            for dz in range(first_dz, half + 1):
                found = keys[place.clamp(max=last)] == keys + (shift + dz)
                table[step] = torch.where(found, place, -1)
                table[-1 - step, place[found]] = here[found]
                place = place + found
                step += 1
    return table


@torch.no_grad()
def strided_map(
    grid_coord: Tensor, batch: Tensor, stride: int
) -> tuple[NeighbourMap, Tensor, Tensor]:
    """Build the map of a convolution whose kernel is as large as its stride.

    Args:
        grid_coord: (N, 3) integer cells in [0, ``MAX_CELL``).
        batch: (N,) cloud of every voxel.
        stride: edge of the kernel and step between outputs.

    Returns:
        The map, the coarse cells (M, 3) sorted by cloud, x, y, z, and their clouds
        (M,). Its ``reversed`` map is that of the inverse convolution.
    """
    grid_coord = grid_coord.long()
    coarse = torch.div(grid_coord, stride, rounding_mode="floor")
    keys, target = torch.unique(pack_voxels(coarse, batch), return_inverse=True)
    x, y, z = (grid_coord - coarse * stride).unbind(dim=1)
    step = (x * stride + y) * stride + z
    source = torch.argsort(step, stable=True)
    pairs = NeighbourMap(
        source=source,
        target=target[source],
        sizes=torch.bincount(step, minlength=stride**3).tolist(),
        num_inputs=len(grid_coord),
        num_outputs=len(keys),
    )
    field_mask = (1 << _FIELD) - 1
    axes = [keys >> 2 * _FIELD & field_mask, keys >> _FIELD & field_mask]
    cells = torch.stack([*axes, keys & field_mask], dim=1) - _MARGIN
    return pairs, cells, keys >> 3 * _FIELD


class _SparseConv(torch.autograd.Function):
    """``out[t] = sum over pairs (s, t, k) of weight[:, k] @ feature[s]``."""

    @staticmethod
    def forward(ctx, feature, weight, pairs):
        ctx.save_for_backward(feature, weight)
        ctx.pairs = pairs
        return _gather_gemm(feature, weight.permute(1, 2, 0), pairs)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        feature, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        to_feature = to_weight = None
        if ctx.needs_input_grad[0]:
            backward = ctx.pairs.reversed
            to_feature = _gather_gemm(gradient, weight.transpose(0, 1), backward)
        if ctx.needs_input_grad[1]:
            to_weight = _weight_gradient(feature, gradient, ctx.pairs)
        return to_feature, to_weight, None


def _gather_gemm(feature: Tensor, matrices: Tensor, pairs: NeighbourMap) -> Tensor:
    """Multiply gathered rows by their kernel cell's (C_in, C_out) matrix and sum.

    Rows are gathered one kernel cell at a time: a buffer for all of them would be
    given back to the system and faulted in again at every layer.
    """
    channels = matrices.shape[2]
    products = feature.new_empty(len(pairs.source), channels)
    cells = zip(
        pairs.source.split(pairs.sizes), products.split(pairs.sizes), strict=True
    )
    for matrix, (source, product) in zip(matrices, cells, strict=True):
        if len(source):
            torch.mm(feature.index_select(0, source), matrix, out=product)
    if len(products):
        order, start = pairs.bags
        summed = F.embedding_bag(order, products, start, mode="sum")
    else:
        summed = feature.new_zeros(pairs.num_outputs, channels)
    if pairs.identity is not None:
        summed.addmm_(feature, matrices[pairs.identity])
    return summed


def _weight_gradient(feature: Tensor, gradient: Tensor, pairs: NeighbourMap) -> Tensor:
    channels = gradient.shape[1], feature.shape[1]
    to_weight = feature.new_zeros(channels[0], len(pairs.sizes), channels[1])
    sources, targets = pairs.source.split(pairs.sizes), pairs.target.split(pairs.sizes)
    for cell, (source, target) in enumerate(zip(sources, targets, strict=True)):
        if cell == pairs.identity:
            to_weight[:, cell] = gradient.t() @ feature
        elif len(source):
            rows = feature.index_select(0, source)
            out = to_weight[:, cell]
            torch.mm(gradient.index_select(0, target).t(), rows, out=out)
    return to_weight


def sparse_conv(
    feature: Tensor, weight: Tensor, bias: Tensor | None, pairs: NeighbourMap
) -> Tensor:
    """Convolve voxel features over a neighbour map.

    Args:
        feature: (N_in, C_in).
        weight: (C_out, k, k, k, C_in), spconv's layout; axes x, y, z.
        bias: (C_out,) or None.
        pairs: map of this resolution and kernel.

    Returns:
        (N_out, C_out), equal to a dense cross-correlation at the output voxels;
        once differentiable; in autocast's dtype inside autocast.
    """
    device = feature.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        feature, weight = feature.to(dtype), weight.to(dtype)
    with torch.autocast(device, enabled=False):
        output = _SparseConv.apply(feature, weight.flatten(1, 3), pairs)
    return output if bias is None else output + bias.to(output.dtype)
