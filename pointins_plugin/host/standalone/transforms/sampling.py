"""Transforms that choose points."""

import random

import numpy as np

from pointins_plugin.errors import UserError

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
    """Keep the nearest points to a centre.

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
            raise UserError(
                f"config: SphereCrop mode={mode!r}; use 'random' or 'center'"
            )
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
        return index_operator(data_dict, np.argpartition(distance, keep - 1)[:keep])


def group_by_cell(grid_coord: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort points by the cell that holds them.

    Args:
        grid_coord: (N, 3) non-negative integers.

    Returns:
        ``order`` (N,) points sorted by cell, ``cell`` (N,) the cell of every point
        (counted in sorted order) and ``count`` (K,) points of each cell.

    Cells are told apart by their position in the bounding box, exactly and by one
    integer sort; where that would overflow 64 bits, by rows.
    """
    extent = grid_coord.max(0).astype(object) + 1
    if int(np.prod(extent)) < 2**62:
        nx, ny, nz = (int(n) for n in extent)
        grid = grid_coord.astype(np.int64)
        key = (grid[:, 0] * ny + grid[:, 1]) * nz + grid[:, 2]
        if nx * ny * nz < 2**31:
            key = key.astype(np.int32)
    else:
        key = np.unique(grid_coord, axis=0, return_inverse=True)[1].ravel()
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    starts = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    cell_sorted = np.cumsum(starts) - 1
    cell = np.empty_like(cell_sorted)
    cell[order] = cell_sorted
    count = np.diff(np.append(np.flatnonzero(starts), len(key)))
    return order, cell, count


@TRANSFORMS.register_module()
class GridSample:
    """Keep one point a cell.

    Args:
        grid_size: side of a cell, metres, or one an axis.
        hash_type: accepted for compatibility; cells are told apart exactly.
        mode: ``"train"`` keeps a random point of every cell; ``"test"`` returns as
            many scenes as the fullest cell has points, which together hold all.
        return_inverse: write ``inverse``, the cell of every original point.
        return_grid_coord: write ``grid_coord`` (M, 3).
        return_min_coord: write ``min_coord`` (1, 3), metres.
        return_displacement: write ``displacement``, the point's place in its cell in
            [-0.5, 0.5), along the normal if ``project_displacement``.
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
            raise UserError(f"config: GridSample mode={mode!r}; use 'train' or 'test'")
        self.grid_size = grid_size
        self.mode = mode
        self.return_inverse = return_inverse
        self.return_grid_coord = return_grid_coord
        self.return_min_coord = return_min_coord
        self.return_displacement = return_displacement
        self.project_displacement = project_displacement

    def __call__(self, data_dict: dict) -> dict | list[dict]:
        size = np.asarray(self.grid_size)
        scaled = data_dict["coord"] / size
        grid_coord = np.floor(scaled).astype(np.int64)
        low = grid_coord.min(0)
        grid_coord -= low
        order, cell, count = group_by_cell(grid_coord)
        start = np.cumsum(count) - count
        if self.mode == "train":
            pick = start + np.random.randint(0, count.max(), count.size) % count
            kept = order[pick]
            if "sampled_index" in data_dict:
                kept = np.unique(np.append(kept, data_dict["sampled_index"]))
                chosen = np.isin(kept, data_dict["sampled_index"])
                data_dict["sampled_index"] = np.flatnonzero(chosen)
            index_operator(data_dict, kept)
            return self._annotate(data_dict, kept, cell, scaled, grid_coord, low, size)
        fragments = []
        for turn in range(count.max()):
            kept = order[start + turn % count]
            fragment = index_operator(data_dict, kept, duplicate=True)
            fragment["index"] = kept
            fragments.append(
                self._annotate(fragment, kept, cell, scaled, grid_coord, low, size)
            )
        return fragments

    def _annotate(self, data_dict, kept, cell, scaled, grid_coord, low, size):
        # A scene that is sampled again must not carry the first sampling's keys along.
        valid = data_dict["index_valid_keys"]
        if self.return_inverse:
            data_dict["inverse"] = cell
        if self.return_grid_coord:
            data_dict["grid_coord"] = grid_coord[kept]
            if "grid_coord" not in valid:
                valid.append("grid_coord")
        if self.return_min_coord:
            data_dict["min_coord"] = (low * size).reshape(1, 3)
        if self.return_displacement:
            inside = (scaled - low)[kept] - grid_coord[kept] - 0.5
            if self.project_displacement:
                inside = (inside * data_dict["normal"]).sum(1, keepdims=True)
            data_dict["displacement"] = inside
            if "displacement" not in valid:
                valid.append("displacement")
        return data_dict
