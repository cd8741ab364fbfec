"""Modes of a density of points: Gaussian mean shift."""

from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from pointins_plugin.ops.components import group_points

_CUTOFF = 2.5  # kernel radius in bandwidths: exp(-3.1) of its peak
_CELL = 0.25  # side of the cells whose points move together, in bandwidths
_BLOCK = 8192  # trajectories that move at a time, which bounds the pairs in memory


def mean_shift_modes(
    centers: Any,
    bandwidth: float,
    batch: Any = None,
    min_size: int = 1,
    max_iters: int = 30,
) -> Any:
    """Group points by the mode of their density that they climb to.

    Points of a small cell move together, weighted by their number, so that the cost
    grows with the occupied cells. Trajectories stop below a hundredth of a bandwidth;
    modes nearer than half a bandwidth are one.

    Args:
        centers: (N, 3) array or tensor, metres.
        bandwidth: standard deviation of the kernel, metres.
        batch: (N,) cloud of every point, or None.
        min_size: smaller groups are dropped.
        max_iters: most steps of a trajectory.

    Returns:
        (N,) mode of every point in order of first appearance, -1 where dropped; an
        array for arrays, a tensor for tensors.

    Source: Comaniciu and Meer, 2002. The prototype's grouping with the highest AP.
    """
    if isinstance(centers, Tensor):
        cloud = batch.cpu().numpy() if isinstance(batch, Tensor) else batch
        modes = mean_shift_modes(
            centers.detach().cpu().numpy(), bandwidth, cloud, min_size, max_iters
        )
        return torch.from_numpy(modes).to(centers.device)
    points = np.asarray(centers, dtype=np.float64)
    label = np.full(len(points), -1, dtype=np.int64)
    clouds = np.zeros(len(points), int) if batch is None else np.asarray(batch)
    for cloud in np.unique(clouds):
        rows = np.flatnonzero((clouds == cloud) & np.isfinite(points).all(1))
        if len(rows):
            modes = _modes(points[rows], bandwidth, max_iters)
            label[rows] = modes + label.max() + 1
    if min_size > 1 and len(label) and label.max() >= 0:
        inside = label >= 0
        keep = np.bincount(label[inside]) >= min_size
        renumber = np.where(keep, np.cumsum(keep) - 1, -1)
        label[inside] = renumber[label[inside]]
    return label


def _modes(points: np.ndarray, bandwidth: float, max_iters: int) -> np.ndarray:
    cells = np.floor((points - points.min(0)) / (_CELL * bandwidth)).astype(np.int64)
    _, index, weight = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    index = index.reshape(-1)
    num = len(weight)
    mass = np.column_stack(
        [np.bincount(index, points[:, axis], num) / weight for axis in range(3)]
    )
    tree = cKDTree(mass)
    place = mass.copy()
    moving = np.arange(num)
    for _ in range(max_iters):
        moved = np.concatenate(
            [
                _shifted(
                    place[moving[first : first + _BLOCK]], mass, weight, tree, bandwidth
                )
                for first in range(0, len(moving), _BLOCK)
            ]
        )
        step = np.linalg.norm(moved - place[moving], axis=1)
        place[moving] = moved
        moving = moving[step > 0.01 * bandwidth]
        if not len(moving):
            break
    return group_points(place, 0.5 * bandwidth)[index]


def _shifted(
    place: np.ndarray,
    mass: np.ndarray,
    weight: np.ndarray,
    tree: cKDTree,
    bandwidth: float,
) -> np.ndarray:
    """Return the weighted means (N, 3) of the masses about each place (N, 3)."""
    near = cKDTree(place).sparse_distance_matrix(
        tree, _CUTOFF * bandwidth, output_type="coo_matrix"
    )
    kernel = np.exp(-0.5 * np.square(near.data / bandwidth)) * weight[near.col]
    total = np.bincount(near.row, kernel, len(place))
    moved = np.column_stack(
        [
            np.bincount(near.row, kernel * mass[near.col, axis], len(place))
            for axis in range(3)
        ]
    )
    return moved / np.maximum(total, 1e-300)[:, None]
