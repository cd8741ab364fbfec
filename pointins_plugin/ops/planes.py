"""Dominant planes: walls, floors and table tops, found without labels."""

import torch
from torch import Tensor

from pointins_plugin.ops.device import on_gpu, to_device
from pointins_plugin.ops.device_planes import device_planes
from pointins_plugin.ops.neighbours import knn
from pointins_plugin.ops.normals import neighbour_normals

# Points of a plane have normals within this cosine of the plane's (32 degrees): the
# sides of things that stand on it do not.
_AGREE = 0.85


@torch.no_grad()
def dominant_planes(
    coord: Tensor,
    offset: Tensor,
    normal: Tensor | None = None,
    neighbour: Tensor | None = None,
    threshold: float = 0.02,
    min_share: float = 0.1,
    max_planes: int = 6,
    num_hypotheses: int = 64,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mark the points of planes that hold a large share of their cloud.

    One-point RANSAC: a point and its normal are a hypothesis; the best of each round
    is refined by least squares and its points are taken out, until none holds
    ``min_share`` of the cloud.

    On a GPU all clouds are searched at once, for ``max_planes`` rounds, and nothing is
    read from it (``ops.device_planes``; of the neighbours, if they have to be found,
    see ``ops.neighbours``). All rounds draw there, also those of a cloud whose search
    has ended, so that only the first cloud's draws are those of the CPU.

    Args:
        coord: (N, 3) metres.
        offset: (B,) cumulative counts.
        normal: (N, 3) unit normals of any sign; estimated if None.
        neighbour: (N, k) spatial neighbours to estimate them from, found if None.
        threshold: largest distance of a point from its plane, metres.
        min_share: least share of the cloud's points.
        max_planes: most planes of a cloud.
        num_hypotheses: points tried for each plane.
        generator: CPU generator of the hypotheses; torch's own if None.

    Returns:
        (N,) bool, True on a dominant plane.
    """
    coord = coord.float()
    if normal is None:
        if neighbour is None:
            neighbour = knn(coord, 16, offset)
        normal = neighbour_normals(coord, neighbour)
    if on_gpu(coord):
        shape = len(offset), max_planes, num_hypotheses
        draws = torch.rand(shape, generator=generator).transpose(0, 1).contiguous()
        return device_planes(
            coord,
            offset.to(coord.device),
            normal.float(),
            to_device(draws, coord.device),
            threshold,
            min_share,
            _AGREE,
        )
    on_plane = torch.zeros(len(coord), dtype=torch.bool, device=coord.device)
    start = 0
    for end in offset.tolist():
        on_plane[start:end] = _cloud_planes(
            coord[start:end],
            normal[start:end].float(),
            threshold,
            min_share,
            max_planes,
            num_hypotheses,
            generator,
        )
        start = end
    return on_plane


def _cloud_planes(
    coord, normal, threshold, min_share, max_planes, num_hypotheses, generator
) -> Tensor:
    num = len(coord)
    on_plane = torch.zeros(num, dtype=torch.bool, device=coord.device)
    left = torch.arange(num, device=coord.device)
    for _ in range(max_planes):
        if len(left) < max(3, min_share * num):
            break
        points, normals = coord[left], normal[left]
        draw = torch.rand(num_hypotheses, generator=generator).to(coord.device)
        pick = (draw * len(left)).long()
        axes = normals[pick]
        levels = (points[pick] * axes).sum(1)
        inlier = _inliers(points, normals, axes, levels, threshold)
        best = inlier[:, inlier.sum(0).argmax()]
        if best.sum() < min_share * num:
            # One more chance at the edge: the fit may gain the points it lacks.
            if best.sum() < 0.7 * min_share * num:
                break
        for _ in range(2):
            centre = points[best].mean(0)
            spread = points[best] - centre
            axis = torch.linalg.eigh(spread.t() @ spread)[1][:, :1].t()
            level = axis @ centre
            best = _inliers(points, normals, axis, level, threshold)[:, 0]
            if best.sum() < 3:
                break
        if best.sum() < min_share * num:
            break
        # Every point of the slab goes, whatever its normal is at a rim ...
        flat = (points @ axis[0] - level).abs() <= 0.5 * threshold
        taken = best | flat
        on_plane[left[taken]] = True
        left = left[~taken]
    return on_plane


def _inliers(points, normals, axes, levels, threshold) -> Tensor:
    """Return (N, H): near the plane and facing its way."""
    near = (points @ axes.t() - levels).abs() <= threshold
    return near & ((normals @ axes.t()).abs() >= _AGREE)
