"""Tokens of a hierarchical backbone: up-casting, cells and block masks."""

import math

import torch
from torch import Tensor

from pointins_plugin.host import Point, offset2batch


def token_stride(strides: tuple[int, ...], up_cast_level: int) -> int:
    """Return how many input cells a token spans along an axis.

    A backbone pools by ``strides``; up-casting ``up_cast_level`` levels from the
    coarsest leaves tokens at the level below.
    """
    if not 0 <= up_cast_level <= len(strides):
        raise ValueError(
            f"up_cast_level must be from 0 to {len(strides)} (the backbone's pools), "
            f"found {up_cast_level}"
        )
    return math.prod(strides[: len(strides) - up_cast_level])


def up_cast(point: Point, level: int, pitch: float = 1.0) -> tuple[Point, Tensor]:
    """Concatenate coarse features onto the tokens ``level`` pools below.

    Args:
        point: output of a traceable backbone, with ``pooling_parent`` and
            ``pooling_inverse`` chained to the input.
        level: number of pools to undo.
        pitch: unit of the returned vectors.

    Returns:
        The token-level Point, whose ``feat`` holds the features of all levels passed,
        finest first; and (N, 3 * level) the vectors from the tokens to their cells'
        centres at each level passed, finest first, in pitches, in the point's frame.

    Source: Sonata's up-cast; the relative positions are ours.
    """
    relative = []
    for _ in range(level):
        if "pooling_parent" not in point.keys():
            raise ValueError(
                "the backbone left no pooling_parent to up-cast to: set "
                "traceable=True, and up_cast_level to at most its number of pools"
            )
        parent, inverse = point.pop("pooling_parent"), point.pop("pooling_inverse")
        parent.feat = torch.cat([parent.feat, point.feat[inverse]], dim=-1)
        centre = point.coord[inverse]
        relative = [vector[inverse] for vector in relative]
        # Vectors of coarser levels start at the finest token, so add this step.
        step = (centre - parent.coord) / pitch
        relative = [step, *[vector + step for vector in relative]]
        point = parent
    empty = point.coord.new_zeros(len(point.coord), 0)
    return point, torch.cat(relative, dim=1) if relative else empty


def input_to_token(point: Point) -> Tensor:
    """Return for every input point the token it belongs to, (N,) long.

    Walks the remaining ``pooling_inverse`` from the tokens down to the input.
    """
    index = torch.arange(len(point.coord), device=point.coord.device)
    while "pooling_parent" in point.keys():
        index = index[point.pooling_inverse]
        point = point.pooling_parent
    return index


def grid_coordinates(coord: Tensor, offset: Tensor, grid_size: float) -> Tensor:
    """Return integer cells (N, 3) of a batch, each cloud starting at zero.

    Args:
        coord: (N, 3) metres.
        offset: (B,) cumulative counts.
        grid_size: side of a cell, metres.
    """
    batch = offset2batch(offset)
    low = coord.new_full((len(offset), 3), torch.inf)
    low.scatter_reduce_(0, batch[:, None].expand_as(coord), coord, "amin")
    return torch.floor((coord - low[batch]) / grid_size).long()


def pack_cells(cells: Tensor, batch: Tensor) -> Tensor:
    """Pack cloud and non-negative cell indices below 2^16 into one key, (N,) long."""
    key = batch.long() << 48
    return (
        key | cells[:, 0].long() << 32 | cells[:, 1].long() << 16 | cells[:, 2].long()
    )


def block_mask(
    grid_coord: Tensor,
    offset: Tensor,
    stride: int,
    edge: int,
    ratio: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mask a share of the cubic blocks of every cloud.

    Blocks are aligned to tokens (a token is masked as a whole) and shifted at random
    from cloud to cloud. At least one block of each cloud stays visible.

    Args:
        grid_coord: (N, 3) input cells.
        offset: (B,) cumulative counts.
        stride: input cells along a token.
        edge: tokens along a block.
        ratio: share of blocks to mask.
        generator: CPU generator.

    Returns:
        (N,) bool, True where masked.

    Source: DOS and Sonata, block masking; the alignment is ours.
    """
    num_clouds = len(offset)
    batch = offset2batch(offset)
    start = torch.randint(edge, (num_clouds, 3), generator=generator).to(batch.device)
    blocks = (grid_coord // stride + start[batch]) // edge
    keys, block = torch.unique(pack_cells(blocks, batch), return_inverse=True)
    owner = keys >> 48
    count = torch.bincount(owner, minlength=num_clouds)
    first = torch.cumsum(count, 0) - count
    draw = torch.rand(len(keys), generator=generator).to(batch.device)
    order = torch.argsort(owner.double() + draw.double())
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(keys), device=batch.device)
    rank = rank - first[owner]
    num_masked = torch.minimum((count * ratio).long(), count - 1)
    return (rank < num_masked[owner])[block]
