"""The ground of an outdoor scan, sloping or stepped."""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from pointins_plugin.ops.device import on_gpu
from pointins_plugin.ops.device_ground import check_grid, device_ground_mask


def ground_points(
    coord: np.ndarray,
    height: float = 0.3,
    cell: float = 1.0,
    window: float = 15.0,
) -> np.ndarray:
    """Return the mask (N,) of points near the ground below them.

    The ground is the lowest point of every cell, opened (in the sense of mathematical
    morphology) after its general slope is taken out: what is narrower than a window is
    cut off, while steps and gentle bends stay, which one plane cannot follow.

    Args:
        coord: (N, 3) metres, z up.
        height: points up to this above the ground are ground, metres.
        cell: edge of the cells, metres.
        window: wider than anything that hides the ground, metres.

    Raises:
        UserError: points too far apart for a grid.

    Source: the progressive morphological filter (Zhang et al., 2003) in one step;
    taking out the slope is ours.
    """
    if not len(coord):
        return np.zeros(0, bool)
    coord = np.asarray(coord, np.float64)
    index = np.floor((coord[:, :2] - coord[:, :2].min(0)) / cell)
    check_grid(*(index.max(0) + 1), cell)
    index = index.astype(np.int64)
    lowest = np.full(tuple(index.max(0) + 1), np.inf)
    place = (index[:, 0], index[:, 1])
    np.minimum.at(lowest, place, coord[:, 2])
    slope = _lower_plane(np.argwhere(np.isfinite(lowest)), lowest)
    lowest -= slope
    empty = np.isinf(lowest)
    if empty.any():
        nearest = ndimage.distance_transform_edt(
            empty, return_distances=False, return_indices=True
        )
        lowest = lowest[tuple(nearest)]
    size = 2 * int(window / cell / 2) + 1
    surface = slope + ndimage.grey_opening(lowest, size=(size, size), mode="nearest")
    return coord[:, 2] <= surface[place] + height


@torch.no_grad()
def ground_mask(coord: Tensor, offset: Tensor, **options: float) -> Tensor:
    """Return the points (N,) bool near the ground of their cloud.

    Tensors of a GPU stay there (``ops.device_ground``), for one wait a call.

    Args:
        coord: (N, 3) metres, z up, sorted by cloud.
        offset: (B,) cumulative counts.
        **options: of ``ground_points``.
    """
    if on_gpu(coord):
        return device_ground_mask(coord, offset.to(coord.device), **options)
    points = coord.detach().cpu().numpy()
    ends = offset.tolist()
    masks = [
        ground_points(points[start:end], **options)
        for start, end in zip([0, *ends][:-1], ends, strict=True)
    ]
    found = np.concatenate(masks) if masks else np.zeros(0, bool)
    return torch.from_numpy(found).to(coord.device)


def _lower_plane(cells: np.ndarray, lowest: np.ndarray, rounds: int = 10) -> np.ndarray:
    """Return heights like ``lowest`` of a plane through the lower half of the cells."""
    design = np.column_stack([cells, np.ones(len(cells))]).astype(float)
    target = lowest[cells[:, 0], cells[:, 1]]
    kept = np.ones(len(cells), bool)
    plane = np.zeros(3)
    for _ in range(rounds):
        plane = np.linalg.lstsq(design[kept], target[kept], rcond=None)[0]
        above = target - design @ plane
        kept = above <= np.median(above)
    x, y = np.indices(lowest.shape)
    return plane[0] * x + plane[1] * y + plane[2]
