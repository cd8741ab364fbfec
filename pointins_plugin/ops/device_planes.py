"""Dominant planes of all clouds of a batch at once, without waiting for a GPU."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pointins_plugin.ops.normals import smallest_axes
from pointins_plugin.ops.segments import segment_index, segment_sum

_AT_ONCE = 1 << 24  # distances of points from hypotheses that are held at a time


class _Clouds(NamedTuple):
    """Points (N, 3), their normals, and the clouds they are sorted by."""

    coord: Tensor
    normal: Tensor
    index: Tensor  # (N,)
    begin: Tensor  # (B,)
    end: Tensor  # (B,)

    def counts(self, mask: Tensor) -> Tensor:
        """Count the points of a mask (..., N) in every cloud."""
        return torch.diff(self.ranks(mask)[..., self.bounds()], dim=-1)[..., ::2]

    def ranks(self, mask: Tensor) -> Tensor:
        """Return how many points of a mask (..., N) stand before each, and in all."""
        return functional.pad(torch.cumsum(mask, -1, dtype=torch.int32), (1, 0))

    def bounds(self) -> Tensor:
        return torch.stack([self.begin, self.end], 1).reshape(-1)


@torch.no_grad()
def device_planes(
    coord: Tensor,
    offset: Tensor,
    normal: Tensor,
    draws: Tensor,
    threshold: float,
    min_share: float,
    agree: float,
) -> Tensor:
    """Mark the points of planes that hold a large share of their cloud.

    The search of ``ops.planes.dominant_planes`` with a fixed number of rounds: a cloud
    in which a round finds nothing takes no part in those that follow, but is computed
    along. Nothing is read from the device. Sums are in float64 and axes in closed form,
    so that a point within rounding of a threshold may fall to the other side of it.

    Args:
        coord: (N, 3) float32, metres, sorted by cloud.
        offset: (B,) cumulative counts.
        normal: (N, 3) float32 unit normals of any sign.
        draws: (R, B, H) in [0, 1), the hypotheses of every round.
        threshold: largest distance of a point from its plane, metres.
        min_share: least share of the cloud's points.
        agree: least cosine of a point's normal and its plane's.

    Returns:
        (N,) bool, True on a dominant plane.
    """
    on_plane = torch.zeros(len(coord), dtype=torch.bool, device=coord.device)
    if not len(coord) or not len(offset):
        return on_plane
    end = offset.long()
    begin = functional.pad(end[:-1], (1, 0))
    index = segment_index(end, len(coord))
    clouds = _Clouds(coord, normal, index, begin, end)
    least = min_share * (end - begin).double()
    chance = 0.7 * min_share * (end - begin).double()
    alive = torch.ones_like(end, dtype=torch.bool)
    for draw in draws:
        left = ~on_plane
        alive = alive & (clouds.counts(left) >= least.clamp(min=3))
        axis, level = _best_hypothesis(clouds, left, draw, threshold, agree)
        inlier = _inliers(clouds, axis, level, threshold, agree) & left
        size = clouds.counts(inlier)
        # One more chance at the edge: the fit may gain the points it lacks.
        alive = alive & (size >= chance)
        fitted = torch.ones_like(alive)
        for _ in range(2):
            fit_axis, fit_level = _fit(clouds, inlier)
            axis = torch.where(fitted[:, None], fit_axis, axis)
            level = torch.where(fitted, fit_level, level)
            inlier = _inliers(clouds, axis, level, threshold, agree) & left
            size = clouds.counts(inlier)
            fitted = size >= 3
        alive = alive & (size >= least)
        # Every point of the slab goes, whatever its normal is at a rim ...
        flat = _distance(coord, axis[index], level[index]) <= 0.5 * threshold
        on_plane |= left & alive[index] & (inlier | flat)
    return on_plane


def _distance(coord: Tensor, axis: Tensor, level: Tensor) -> Tensor:
    # No product of matrices: mixed precision would round it.
    return ((coord * axis).sum(1) - level).abs()


def _inliers(clouds, axis, level, threshold, agree) -> Tensor:
    """Return (N,): near the plane of the cloud and facing its way."""
    axis, level = axis[clouds.index], level[clouds.index]
    near = _distance(clouds.coord, axis, level) <= threshold
    return near & ((clouds.normal * axis).sum(1).abs() >= agree)


def _best_hypothesis(clouds, left, draw, threshold, agree) -> tuple[Tensor, Tensor]:
    """Return the axis (B, 3) and level (B,) with the most points of every cloud."""
    ranks = clouds.ranks(left).long()
    pick = (draw * clouds.counts(left)[:, None]).long()
    wanted = ranks[clouds.begin][:, None] + pick + 1
    point = torch.searchsorted(ranks[1:], wanted).clamp_(max=len(left) - 1)
    axes = clouds.normal[point]
    levels = (clouds.coord[point] * axes).sum(2)
    counts = []
    step = max(1, _AT_ONCE // len(left))
    for start in range(0, draw.shape[1], step):
        part = slice(start, start + step)
        level = levels[:, part].t()[:, clouds.index]
        gap, cosine = -level, torch.zeros_like(level)
        for axis in range(3):
            values = axes[:, part, axis].t()[:, clouds.index]
            gap.addcmul_(clouds.coord[:, axis], values)
            cosine.addcmul_(clouds.normal[:, axis], values)
        inlier = (gap.abs() <= threshold) & (cosine.abs() >= agree) & left
        counts.append(clouds.counts(inlier))
    best = torch.cat(counts).argmax(0)[:, None]
    axis = torch.take_along_dim(axes, best[:, :, None], 1)[:, 0]
    return axis, torch.take_along_dim(levels, best, 1)[:, 0]


def _fit(clouds, inlier) -> tuple[Tensor, Tensor]:
    """Return the axis (B, 3) and level (B,) of planes through the points of a mask."""
    num = len(clouds.begin)
    weight = inlier.double()[:, None]
    coord = clouds.coord.double()
    size = segment_sum(weight, clouds.index, num).clamp(min=1)
    centre = segment_sum(coord * weight, clouds.index, num) / size
    spread = (coord - centre[clouds.index]) * weight
    products = (spread[:, :, None] * spread[:, None]).flatten(1)
    axis = smallest_axes(segment_sum(products, clouds.index, num).view(num, 3, 3))
    return axis.float(), (axis * centre).sum(1).float()
