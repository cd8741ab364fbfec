"""Agreement of neighbours: predicted centres averaged over spatial neighbours."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pointins_plugin.ops.neighbours import knn


@torch.no_grad()
def smooth_offsets(
    coord: Tensor,
    shift: Tensor,
    offset: Tensor,
    rounds: int = 2,
    num_neighbours: int = 12,
    reach: float | None = None,
    keep: Tensor | None = None,
) -> Tensor:
    """Replace every predicted centre by the mean over its spatial neighbours.

    Coarse features are cast up cell by cell, so that predicted centres jump where
    cells meet, by more than the distance at which centres are grouped. Neighbours
    mostly share their centre: a mean over them closes the jumps.

    Args:
        coord: (N, 3) metres.
        shift: (N, 3) predicted offsets, the same frame.
        offset: (B,) cumulative counts.
        rounds: times the mean is taken.
        num_neighbours: nearest points in the mean, besides the point itself.
        reach: neighbours farther than this do not count, metres; None for no limit.
        keep: (N,) bool, points that take part; the others keep their offset.

    Returns:
        (N, 3) offsets to the averaged centres.
    """
    if rounds == 0 or not len(coord):
        return shift
    rows = torch.arange(len(coord), device=coord.device)
    if keep is not None:
        rows = rows[keep]
        count = torch.cumsum(keep.long(), 0)
        ends = torch.cat([count.new_zeros(1), count])[offset]
    else:
        ends = offset
    points = coord[rows].float()
    neighbour = knn(points, num_neighbours, ends)
    near = neighbour >= 0
    index = neighbour.clamp(min=0)
    if reach is not None:
        near &= (points[index] - points[:, None]).square().sum(-1) < reach**2
    weight = near.to(points.dtype).unsqueeze(-1)
    total = weight.sum(1) + 1
    centre = points + shift[rows].float()
    for _ in range(rounds):
        centre = (centre + (centre[index] * weight).sum(1)) / total
    smoothed = shift.clone()
    smoothed[rows] = (centre - points).to(shift.dtype)
    return smoothed


def smooth_things(
    coord: Tensor,
    shift: Tensor,
    probability: Tensor,
    ignore: Sequence[int],
    offset: Tensor,
    **options: Any,
) -> Tensor:
    """Smooth the offsets of points that are predicted to be things, among themselves.

    Args:
        coord, shift, offset: as of ``smooth_offsets``.
        probability: (N, C) of the classes, or their logits.
        ignore: classes without instances; others than 0 ... C - 1 are passed over.
        **options: of ``smooth_offsets``.

    Returns:
        (N, 3) offsets; those of other points are as they were.
    """
    kind = probability.argmax(1)
    stuff = [index for index in ignore if 0 <= index < probability.shape[1]]
    things = ~torch.isin(kind, kind.new_tensor(stuff))
    return smooth_offsets(coord, shift, offset, keep=things, **options)
