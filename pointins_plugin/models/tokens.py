"""Tokens of a hierarchical backbone: up-casting, cells and block masks."""

import itertools
import math
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from pointins_plugin.errors import UserError
from pointins_plugin.host import Point
from pointins_plugin.ops.device import to_device
from pointins_plugin.ops.segments import segment_count, segment_index, segment_mean


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


def up_cast_channels(backbone: dict, level: int) -> int:
    """Return the channels of a backbone's features up-cast by ``level`` pools.

    Raises:
        UserError: the backbone's config does not tell.
    """
    channels = backbone.get("enc_channels") or backbone.get("channels")
    if channels is None:
        raise UserError(
            "config: head_in_channels cannot be told from this backbone's config; give "
            "the number of channels of its output"
        )
    return sum(channels[-level - 1 :])


def up_cast(
    point: Point, level: int | None, pitch: float = 1.0
) -> tuple[Point, Tensor]:
    """Concatenate coarse features onto the tokens ``level`` pools below.

    Args:
        point: output of a traceable backbone, with ``pooling_parent`` and
            ``pooling_inverse`` chained to the input.
        level: number of pools to undo; None undoes all.
        pitch: unit of the returned vectors.

    Returns:
        The token-level Point, whose ``feat`` holds the features of all levels passed,
        finest first; and (N, 3 * level) the vectors from the tokens to their cells'
        centres at each level passed, finest first, in pitches, in the point's frame.

    Source: Sonata's up-cast; the relative positions are ours.
    """
    relative = []
    for _ in itertools.count() if level is None else range(level):
        if "pooling_parent" not in point.keys():
            if level is None:
                break
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


def pool_cells(point: Point, stride: int) -> Point:
    """Average points into tokens of ``stride`` grid cells along an axis.

    For backbones that return a feature for every point (sparse convolutions).

    Args:
        point: ``feat`` (N, C), ``coord`` (N, 3), ``grid_coord`` (N, 3) non-negative,
            ``batch`` and ``offset``; ``origin_coord`` where it is known.
        stride: cells of the input along a token; 1 changes nothing.

    Returns:
        The tokens, sorted by cloud, with ``pooling_parent`` and ``pooling_inverse``.
    """
    if stride == 1:
        return point
    return _pool(point, torch.div(point.grid_coord, stride, rounding_mode="floor"))


def _pool(point: Point, cells: Tensor) -> Point:
    keys, inverse = torch.unique(pack_cells(cells, point.batch), return_inverse=True)
    tokens = {
        key: segment_mean(point[key], inverse, len(keys))
        for key in ("feat", "coord", "origin_coord")
        if key in point.keys()
    }
    batch = keys >> 48
    count = segment_count(batch, len(point.offset))
    tokens["grid_coord"] = cells.new_empty(len(keys), 3).index_copy_(0, inverse, cells)
    pooled = Point({**tokens, "batch": batch, "offset": torch.cumsum(count, 0)})
    pooled["pooling_parent"] = point
    pooled["pooling_inverse"] = inverse
    return pooled


def cell_tokens(
    coord: Tensor, feat: Tensor, offset: Tensor, size: float
) -> tuple[Point, Tensor]:
    """Average points into tokens that are cubes of a given size.

    Args:
        coord: (N, 3) metres.
        feat: (N, C).
        offset: (B,) cumulative counts.
        size: edge of a token, metres.

    Returns:
        The tokens (``coord``, ``feat``, ``offset``, ``batch``), sorted by cloud, and
        (N,) the token of every point.
    """
    point = Point(coord=coord.float(), feat=feat, offset=offset)
    point["grid_coord"] = grid_coordinates(point.coord, offset, size)
    tokens = _pool(point, point.grid_coord)
    return tokens, tokens.pooling_inverse


def backbone_tokens(
    backbone: nn.Module,
    point: Point,
    level: int,
    pitch: float = 1.0,
    pool: int = 1,
) -> tuple[Point, Tensor]:
    """Run a backbone and return its tokens, whatever kind of backbone it is.

    Args:
        backbone: returns a Point, or features (N, C) of the points it was given.
        point: the input.
        level, pitch: see ``up_cast``.
        pool: see ``pool_cells``.

    Returns:
        The token-level Point and the vectors of ``up_cast``.

    Raises:
        UserError: the points have another number of features than the backbone takes.
    """
    given = point.feat.shape[1]
    try:
        output = backbone(point)
    except (RuntimeError, ValueError, AssertionError):
        _check_channels(backbone, given)
        raise
    if isinstance(output, Tensor):  # backbones older than Point return features
        point["feat"] = output
        output = point
    tokens, relative = up_cast(output, level, pitch)
    pooled = pool_cells(tokens, pool)
    if pooled is not tokens:
        relative = segment_mean(relative, pooled.pooling_inverse, len(pooled.coord))
    return pooled, relative


def cloud_ends(point: Point) -> list[int]:
    """Return the cumulative counts of a Point's clouds, read from its device once."""
    if "cloud_ends" not in point.keys():
        point["cloud_ends"] = point.offset.tolist()
    return point["cloud_ends"]


def input_to_token(point: Point) -> Tensor:
    """Return for every input point the token it belongs to, (N,) long.

    Walks the remaining ``pooling_inverse`` from the tokens down to the input.
    """
    index = torch.arange(len(point.coord), device=point.coord.device)
    while "pooling_parent" in point.keys():
        index = index[point.pooling_inverse]
        point = point.pooling_parent
    return index


def grid_coordinates(
    coord: Tensor, offset: Tensor, grid_size: float, shared: bool = False
) -> Tensor:
    """Return integer cells (N, 3) of a batch, each cloud starting at zero.

    Args:
        coord: (N, 3) metres.
        offset: (B,) cumulative counts.
        grid_size: side of a cell, metres.
        shared: all clouds lie in one grid that starts at the lowest of them, as in
            Pointcept's ``Point``.
    """
    if shared:
        low = coord.amin(0) if len(coord) else 0
        return torch.floor((coord - low) / grid_size).long()
    batch = segment_index(offset, len(coord))
    low = coord.new_full((len(offset), 3), torch.inf)
    low.scatter_reduce_(0, batch[:, None].expand_as(coord), coord, "amin")
    return torch.floor((coord - low[batch]) / grid_size).long()


def grid_size_of(value: Any) -> float:
    """Return the one grid size of a batch, however it was collated."""
    if isinstance(value, Tensor):
        return float(value.reshape(-1)[0])
    if isinstance(value, (list, tuple)):
        return grid_size_of(value[0])
    return float(value)


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
    batch = segment_index(offset, len(grid_coord))
    start = torch.randint(edge, (num_clouds, 3), generator=generator)
    start = to_device(start, batch.device)
    blocks = (grid_coord // stride + start[batch]) // edge
    keys, block = torch.unique(pack_cells(blocks, batch), return_inverse=True)
    owner = keys >> 48
    count = segment_count(owner, num_clouds)
    first = torch.cumsum(count, 0) - count
    draw = to_device(torch.rand(len(keys), generator=generator), batch.device)
    order = torch.argsort(owner.double() + draw.double())
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(keys), device=batch.device)
    rank = rank - first[owner]
    num_masked = torch.minimum((count * ratio).long(), count - 1)
    return (rank < num_masked[owner])[block]


def cube_mask(
    coord: Tensor,
    offset: Tensor,
    size: float,
    ratio: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mask a share of the cubes that the clouds of a batch are cut into.

    Cubes are aligned to each cloud's lowest corner, not to tokens, and drawn from all
    clouds together; all of a cloud may be masked: a token takes its points' place.

    Args:
        coord: (N, 3) metres.
        offset: (B,) cumulative counts.
        size: side of a cube, metres.
        ratio: share of cubes to mask.
        generator: CPU generator.

    Returns:
        (N,) bool, True where masked.

    Source: Sonata (Pointcept ``Sonata-v1m1``), mask generation.
    """
    batch = segment_index(offset, len(coord))
    cells = grid_coordinates(coord, offset, size)
    keys, cube = torch.unique(pack_cells(cells, batch), return_inverse=True)
    order = to_device(torch.randperm(len(keys), generator=generator), cube.device)
    return (order < int(len(keys) * ratio))[cube]


def _check_channels(backbone: nn.Module, given: int) -> None:
    """Say so where a backbone failed because it takes another number of features."""
    first = getattr(backbone, "embedding", backbone)
    channels = getattr(first, "in_channels", None)
    if isinstance(channels, int) and given != channels:
        raise UserError(
            f"{type(backbone).__name__}: the batch's feat has {given} channels, the "
            f"backbone was built for {channels}: set in_channels or the feat_keys of "
            "Collect"
        ) from None
