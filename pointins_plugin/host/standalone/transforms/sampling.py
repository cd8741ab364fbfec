"""Transforms that choose points."""

import random
from typing import Any

import numpy as np

from ..registry import TRANSFORMS
from .base import index_operator


@TRANSFORMS.register_module()
class RandomDropout:
    """Drop a share of the points, with a probability.

    Points named by ``sampled_index`` (label-efficient splits) stay.
    """

    def __init__(
        self, dropout_ratio: float = 0.2, dropout_application_ratio: float = 0.5
    ):
        self.dropout_ratio = dropout_ratio
        self.dropout_application_ratio = dropout_application_ratio

    def __call__(self, data_dict: dict) -> dict:
        if random.random() < self.dropout_application_ratio:
            num = len(data_dict["coord"])
            keep = int(num * (1 - self.dropout_ratio))
            index = np.random.choice(num, keep, replace=False)
            if "sampled_index" in data_dict:
                labelled = data_dict["sampled_index"]
                index = np.unique(np.append(index, labelled))
                data_dict["sampled_index"] = np.flatnonzero(np.isin(index, labelled))
            index_operator(data_dict, index)
        return data_dict


@TRANSFORMS.register_module()
class ShufflePoint:
    """Put the points in random order."""

    def __call__(self, data_dict: dict) -> dict:
        return index_operator(data_dict, np.random.permutation(len(data_dict["coord"])))


@TRANSFORMS.register_module()
class CropBoundary:
    """Drop the points of classes 0 and 1."""

    def __call__(self, data_dict: dict) -> dict:
        return index_operator(data_dict, ~np.isin(data_dict["segment"].ravel(), (0, 1)))


@TRANSFORMS.register_module()
class SphereCrop:
    """Keep the nearest points to a centre, the nearest first.

    Args:
        point_max: most points to keep.
        sample_rate: share of the points to keep, instead.
        mode: ``"random"`` or ``"center"`` (the middle point of the array).
    """

    def __init__(
        self,
        point_max: int = 80000,
        sample_rate: float | None = None,
        mode: str = "random",
    ):
        if mode not in ("random", "center"):
            raise ValueError(f"mode={mode!r}; use 'random' or 'center'")
        self.point_max = point_max
        self.sample_rate = sample_rate
        self.mode = mode

    def __call__(self, data_dict: dict) -> dict:
        coord = data_dict["coord"]
        keep = self.point_max
        if self.sample_rate is not None:
            keep = int(self.sample_rate * len(coord))
        if len(coord) <= keep:
            return data_dict
        middle = len(coord) // 2
        if self.mode == "random":
            middle = np.random.randint(len(coord))
        distance = np.square(coord - coord[middle]).sum(1)
        nearest = np.argpartition(distance, keep - 1)[:keep]
        return index_operator(data_dict, nearest[np.argsort(distance[nearest])])


def _cells(coord: np.ndarray, size: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the cells (N, 3) of points, from 0 on, and the lowest (3,) of the grid."""
    # An axis at a time: rows of three are slow to walk.
    axes = np.empty((3, len(coord)), dtype=np.int64)
    size = np.array(size)
    # as of all axes at once, Pointcept's way: NumPy 1 widens for a list of sizes only
    dtype = np.result_type(coord, size)
    sides = np.broadcast_to(size, 3)
    for axis, column, side in zip(axes, coord.T, sides, strict=True):
        axis[:] = np.floor(np.divide(column, side, dtype=dtype))
    low = axes.min(axis=1)
    axes -= low[:, None]
    return axes.T, low


# FNV-1a, 64 bits
_FNV_BASIS = np.uint64(14695981039346656037)
_FNV_PRIME = np.uint64(1099511628211)


def cell_keys(grid_coord: np.ndarray, hash_type: str = "fnv") -> np.ndarray:
    """Return one key a cell, which decides the order of the cells.

    Args:
        grid_coord: (N, 3) non-negative integers.
        hash_type: ``"fnv"`` scatters the cells; ``"ravel"`` counts them row by row, z
            running fastest.

    Returns:
        (N,) uint64. Two cells of a cloud of a million share an FNV key with a
        probability of 3e-8; ravelled keys never coincide.
    """
    columns = grid_coord.T.astype(np.uint64)
    if hash_type == "fnv":
        key = np.full(len(grid_coord), _FNV_BASIS)
        for column in columns:
            key *= _FNV_PRIME
            key ^= column
        return key
    x, y, z = columns
    nx, ny, nz = (int(column.max()) + 1 for column in columns)
    if nx * ny * nz >= 2**64:
        inverse = np.unique(grid_coord, axis=0, return_inverse=True)[1]
        return inverse.ravel().astype(np.uint64)
    return (x * np.uint64(ny) + y) * np.uint64(nz) + z


def group_by_key(key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort points by key.

    Returns:
        ``order`` (N,) points sorted by key, ``count`` (K,) points of each key.
    """
    order = np.argsort(key)
    ordered = key.take(order)
    starts = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    return order, np.diff(starts, prepend=0, append=len(key))


@TRANSFORMS.register_module()
class GridSample:
    """Keep one point a cell.

    Args:
        grid_size: side of a cell, metres, or one an axis.
        hash_type: ``"fnv"`` leaves the cells in a scattered order, any other name in
            the order of rows.
        mode: ``"train"`` keeps a random point of every cell; ``"test"`` returns as
            many scenes as the fullest cell has points, which together hold all; their
            ``index`` tells which.
        return_inverse: write ``inverse`` (N,), the kept point of every point's cell.
        return_grid_coord: write ``grid_coord`` (M, 3).
        return_min_coord: write ``min_coord`` (1, 3), the corner of the grid, metres.
        return_displacement: write ``displacement`` (M, 3), the point's place in its
            cell in [-0.5, 0.5), cells.
        project_displacement: the displacement along the normal (M, 1) instead.

    In train mode points named by ``sampled_index`` (label-efficient splits) are kept
    besides. With the same seeds the points, and their order, are Pointcept's.
    """

    def __init__(
        self,
        grid_size=0.05,
        hash_type: str = "fnv",
        mode: str = "train",
        return_inverse: bool = False,
        return_grid_coord: bool = False,
        return_min_coord: bool = False,
        return_displacement: bool = False,
        project_displacement: bool = False,
    ):
        if mode not in ("train", "test"):
            raise ValueError(f"mode={mode!r}; use 'train' or 'test'")
        if not np.all(np.asarray(grid_size) > 0):
            raise ValueError(f"grid_size={grid_size!r} is not positive")
        self.grid_size = grid_size
        self.hash_type = hash_type
        self.mode = mode
        self.return_inverse = return_inverse
        self.return_grid_coord = return_grid_coord
        self.return_min_coord = return_min_coord
        self.return_displacement = return_displacement
        self.project_displacement = project_displacement

    def __call__(self, data_dict: dict) -> dict | list[dict]:
        coord = data_dict["coord"]
        grid, low = _cells(coord, self.grid_size)
        order, count = group_by_key(cell_keys(grid, self.hash_type))
        start = np.cumsum(count) - count

        def annotate(scene: dict, kept: np.ndarray) -> dict:
            per_point = {}
            if self.return_inverse:
                scene["inverse"] = np.empty(len(order), dtype=np.int64)
                scene["inverse"][order] = np.repeat(np.arange(len(count)), count)
            if self.return_grid_coord:
                per_point["grid_coord"] = grid.take(kept, axis=0)
            if self.return_min_coord:
                scene["min_coord"] = (low * np.array(self.grid_size)).reshape(1, 3)
            if self.return_displacement:
                cell = grid.take(kept, axis=0)
                scaled = coord.take(kept, axis=0) / np.array(self.grid_size)
                place = scaled - low - cell - 0.5
                if self.project_displacement:
                    place = (place * scene["normal"]).sum(1, keepdims=True)
                per_point["displacement"] = place
            scene.update(per_point)
            # a new list: the scene's may be the config's own, from Update
            valid = scene["index_valid_keys"]
            new = [key for key in per_point if key not in valid]
            scene["index_valid_keys"] = [*valid, *new]
            return scene

        if self.mode == "test":
            turns = (order[start + turn % count] for turn in range(count.max()))
            return [
                annotate(
                    index_operator({**data_dict, "index": kept}, kept, duplicate=True),
                    kept,
                )
                for kept in turns
            ]
        kept = order[start + np.random.randint(0, count.max(), count.size) % count]
        if "sampled_index" in data_dict:
            kept = np.unique(np.append(kept, data_dict["sampled_index"]))
            chosen = np.isin(kept, data_dict["sampled_index"])
            data_dict["sampled_index"] = np.flatnonzero(chosen)
        return annotate(index_operator(data_dict, kept), kept)
