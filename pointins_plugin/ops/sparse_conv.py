"""Sparse convolution on voxels: neighbour maps and gather-GEMM-gather in PyTorch.

A neighbour map lists, kernel cell by kernel cell, the (input, output) pairs of
voxels it connects; it is built once per resolution and shared by every layer of it.
Sums run in a fixed order: results do not depend on the number of threads.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Cells must stay clear of their field's border so that a kernel cannot carry into
# the next axis: 16 bits an axis, half a field of margin.
_FIELD = 16
_MARGIN = 1 << 8


@dataclass(frozen=True)
class NeighbourMap:
    """Pairs of input and output voxels connected by a kernel.

    Attributes:
        source: (P,) input voxel of every pair, sorted by kernel cell.
        sizes: pairs of each kernel cell, in the kernel's memory order.
        by_output: (P,) pairs sorted by output voxel; (N_out,) ``output_start`` where
            each output's pairs begin.
        target: (P,) output voxel of every pair.
        by_input, input_start: the same by input voxel, for the gradient.
        identity: index of the kernel cell that maps every voxel to itself, which is
            left out of the pairs; None where there is none.
    """

    source: Tensor
    target: Tensor
    sizes: list[int]
    by_output: Tensor
    output_start: Tensor
    by_input: Tensor
    input_start: Tensor
    identity: int | None


def pack_voxels(grid_coord: Tensor, batch: Tensor) -> Tensor:
    """Pack cloud and cell into one sortable key (N,), axis x above y above z."""
    x, y, z = (grid_coord.long() + _MARGIN).unbind(dim=1)
    return ((batch.long() << _FIELD | x) << _FIELD | y) << _FIELD | z


def _pack_step(step: tuple[int, int, int]) -> int:
    return (step[0] << 2 * _FIELD) + (step[1] << _FIELD) + step[2]


@torch.no_grad()
def submanifold_map(
    grid_coord: Tensor, batch: Tensor, kernel_size: int = 3
) -> NeighbourMap:
    """Build the map of a submanifold convolution: outputs at the input voxels only.

    Args:
        grid_coord: (N, 3) integer cells, each axis below 65,000.
        batch: (N,) cloud of every voxel.
        kernel_size: odd edge of the kernel.

    Points that share a cell read each other's neighbours through the first of them
    (lowest index) and themselves through the kernel's centre, so that the result
    does not depend on the order in which a hash table was filled.
    """
    num = len(grid_coord)
    keys, order = torch.sort(pack_voxels(grid_coord, batch), stable=True)
    half = kernel_size // 2
    steps = [
        (dx, dy, dz)
        for dx in range(-half, half + 1)
        for dy in range(-half, half + 1)
        for dz in range(-half, half + 1)
    ]
    identity = len(steps) // 2
    sources, targets, sizes = [], [], []
    for index, step in enumerate(steps):
        if index == identity:
            sizes.append(0)
            continue
        wanted = keys + _pack_step(step)
        place = torch.searchsorted(keys, wanted)
        place.clamp_(max=max(num - 1, 0))
        hit = torch.nonzero(keys[place] == wanted)[:, 0]
        sources.append(order[place[hit]])
        targets.append(order[hit])
        sizes.append(len(hit))
    source, target = torch.cat(sources), torch.cat(targets)
    return NeighbourMap(
        source=source,
        target=target,
        sizes=sizes,
        **_bags("output", target, num),
        **_bags("input", source, num),
        identity=identity,
    )


def _bags(side: str, owner: Tensor, num: int) -> dict[str, Tensor]:
    count = torch.bincount(owner, minlength=num)
    return {
        f"by_{side}": torch.argsort(owner, stable=True),
        f"{side}_start": torch.cumsum(count, 0) - count,
    }


class _SparseConv(torch.autograd.Function):
    """``out[t] = sum over pairs (s, t, k) of feature[s] @ weight[k]``."""

    @staticmethod
    def forward(ctx, feature, weight, pairs):
        ctx.save_for_backward(feature, weight)
        ctx.pairs = pairs
        return _gather_gemm(
            feature,
            weight,
            pairs.source,
            pairs.sizes,
            pairs.by_output,
            pairs.output_start,
            pairs.identity,
        )

    @staticmethod
    def backward(ctx, gradient):
        feature, weight = ctx.saved_tensors
        pairs = ctx.pairs
        gradient = gradient.contiguous()
        to_feature = to_weight = None
        if ctx.needs_input_grad[0]:
            to_feature = _gather_gemm(
                gradient,
                weight.transpose(1, 2),
                pairs.target,
                pairs.sizes,
                pairs.by_input,
                pairs.input_start,
                pairs.identity,
            )
        if ctx.needs_input_grad[1]:
            to_weight = torch.empty_like(weight)
            inputs = feature[pairs.source].split(pairs.sizes)
            outputs = gradient[pairs.target].split(pairs.sizes)
            for cell, (x, y) in enumerate(zip(inputs, outputs, strict=True)):
                if cell == pairs.identity:
                    x, y = feature, gradient
                torch.mm(x.t(), y, out=to_weight[cell])
        return to_feature, to_weight, None


def _gather_gemm(feature, weight, source, sizes, order, start, identity):
    """Multiply gathered rows by their kernel cell's matrix and sum them by bag."""
    gathered = feature[source]
    products = feature.new_empty(len(source), weight.shape[2])
    for cell, (x, y) in enumerate(
        zip(gathered.split(sizes), products.split(sizes), strict=True)
    ):
        if len(x):
            torch.mm(x, weight[cell], out=y)
    if len(source):
        summed = F.embedding_bag(order, products, start, mode="sum")
    else:
        summed = feature.new_zeros(len(start), weight.shape[2])
    if identity is not None and len(feature):
        summed = torch.addmm(summed, feature, weight[identity])
    return summed


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
        differentiable; in autocast's dtype inside autocast.
    """
    if torch.is_autocast_enabled(feature.device.type):
        dtype = torch.get_autocast_dtype(feature.device.type)
        feature, weight = feature.to(dtype), weight.to(dtype)
    out_channels, in_channels = weight.shape[0], weight.shape[-1]
    kernel = weight.reshape(out_channels, -1, in_channels).permute(1, 2, 0)
    with torch.autocast(feature.device.type, enabled=False):
        output = _SparseConv.apply(feature, kernel.contiguous(), pairs)
    return output if bias is None else output + bias.to(output.dtype)
