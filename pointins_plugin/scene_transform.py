"""Scenes as a network takes them outside training: no labels, nothing drawn at random.

What a network expects (grid, features, centring, range of colours) stands in the
transforms of its config; labels and augmentation are left out of them.
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pointins_plugin.errors import UserError
from pointins_plugin.host import Compose, collate_fn, plain_values, seeded
from pointins_plugin.ops.normals import estimate_normals
from pointins_plugin.scenes import (
    color_range,
    near_origin,
    scene_problem,
    strength_range,
)

# Transforms of labels, those that drop points, and those that end a pipeline.
_LEFT_OUT = {
    "Add",
    "ClipGaussianJitter",
    "Collect",
    "Copy",
    "CropBoundary",
    "ElasticDistortion",
    "HueSaturationTranslation",
    "InstanceParser",
    "PointClip",
    "RangeCrop",
    "ShufflePoint",
    "SphereCrop",
    "ThingInstances",
    "ToTensor",
    "Update",
}
_RANDOM = ("Random", "Chromatic")
# TrackedAffine without what it draws: centring is left.
_STILL = {"type": "TrackedAffine", "rotate": {}, "scale": [1, 1], "flip_p": 0}
# What a cloud may lack: the value of all points, their columns, and the words for it.
_MADE_UP = {
    "color": (127.5, 3, "all points are grey"),
    "strength": (0, 1, "all intensities are 0"),
}


@dataclass(frozen=True)
class Recipe:
    """What becomes of a scene before the network; plain values, for JSON.

    Attributes:
        grid_size: side of a cell, metres.
        features: arrays that make up the network's input, in order.
        before, after: configs of the transforms before and after one point a cell is
            taken.
        viewpoint: (x, y, z) metres that estimated normals face; None faces them up.
        normal_neighbours: points a normal is estimated from.
    """

    grid_size: float
    features: tuple[str, ...]
    before: tuple[dict[str, Any], ...] = ()
    after: tuple[dict[str, Any], ...] = ()
    viewpoint: tuple[float, float, float] | None = None
    normal_neighbours: int = 16

    @classmethod
    def of_config(cls, cfg: Any) -> "Recipe":
        """Read a run's config: its validation pipeline, or else that of training.

        Of several data sets it is the first's, of pairs that of their first half.

        Raises:
            UserError: neither samples a grid and collects features.
        """
        data = cfg["data"] if "data" in cfg else {}
        for split in ("val", "train"):
            source = _first_source(data.get(split) or {})
            steps = source.get("transform") or source.get("view1_transform") or ()
            features = _features(steps)
            grid = next((s for s in steps if s["type"] == "GridSample"), None)
            if features is None or grid is None:
                continue
            at = list(steps).index(grid)
            viewpoint = source.get("viewpoint")
            return cls(
                float(grid.get("grid_size", 0.05)),
                features,
                tuple(_kept(steps[:at])),
                tuple(_kept(steps[at + 1 :])),
                None if viewpoint is None else tuple(map(float, viewpoint)),
                source.get("normal_neighbours", 16),
            )
        raise UserError(
            "config: neither data.val nor data.train has a transform with GridSample "
            "and a Collect of feat_keys, so that what the network takes is unknown"
        )

    @classmethod
    def of_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """Take back what ``vars`` of a recipe became in JSON."""
        lists = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**lists)


def _first_source(source: Mapping[str, Any]) -> Mapping[str, Any]:
    while source.get("datasets"):
        source = source["datasets"][0]
    return source


def _features(steps: Iterable[Mapping[str, Any]]) -> tuple[str, ...] | None:
    for step in steps:
        if step["type"] == "Collect":
            for prefix in ("", "global_", "view1_"):
                keys = step.get(f"{prefix}feat_keys")
                if keys is not None:
                    keys = (keys,) if isinstance(keys, str) else keys
                    return tuple(key.removeprefix(prefix) for key in keys)
    return None


def _kept(steps: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what is left of transforms, those of global views in their place."""
    kept: list[dict[str, Any]] = []
    for step in steps:
        kind = step["type"]
        if kind == "TrackedAffine":
            centre = step.get("center", "box_floor")
            if centre != "origin":
                kept.append({**_STILL, "center": centre})
        elif "global_transform" in step or "view_keys" in step:
            for name in ("global_shared_transform", "global_transform"):
                kept += _kept(step.get(name) or ())
        elif kind == "GridSample" or kind in _LEFT_OUT or kind.startswith(_RANDOM):
            continue
        else:
            kept.append(plain_values(step))
    return kept


@dataclass(frozen=True)
class Cells:
    """One point of every occupied cell of a scene.

    Attributes:
        row: (M,) the points that were taken.
        inverse: (N,) for each point of the scene the one of ``row`` in its cell.
        arrays: their ``coord`` (M, 3) metres, ``grid_coord`` (M, 3) and features.
        assumed: what the scene did not have and was made up, for the user.
    """

    row: np.ndarray
    inverse: np.ndarray
    arrays: dict[str, np.ndarray]
    assumed: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.row)


class SceneTransform:
    """Turn the arrays of a scene into what a network takes.

    The same scene gives the same result: the point of a cell is drawn from a generator
    of its own.

    Args:
        recipe: what the network was trained with.

    Call it with a mapping of ``coord`` (N, 3) metres, z up, and where there are
    ``color`` (N, 3) in 0-255 or 0-1, ``normal`` (N, 3) and ``strength`` (N,) or (N, 1)
    in 0-1, 0-255 or 0-65535.
    Missing colours become grey, missing normals are estimated. It returns ``coord``,
    ``grid_coord`` (M, 3), ``feat`` (M, C), ``offset`` (1,), ``grid_size`` and
    ``inverse`` (N,), the row of each original point.

    Raises:
        UserError: no coordinates, arrays of other lengths, NaN, fewer than two points,
            points too far apart for float32.
    """

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self._before = Compose([dict(step) for step in recipe.before])
        self._grid = Compose(
            [
                {
                    "type": "GridSample",
                    "grid_size": recipe.grid_size,
                    "hash_type": "fnv",
                    "mode": "train",
                    "return_grid_coord": True,
                    "return_inverse": True,
                }
            ]
        )
        self._after = Compose(
            [
                *(copy.deepcopy(dict(step)) for step in recipe.after),
                {"type": "ToTensor"},
                {
                    "type": "Update",
                    "keys_dict": {"grid_size": recipe.grid_size},
                },
                {
                    "type": "Collect",
                    "keys": ("coord", "grid_coord", "grid_size"),
                    "feat_keys": recipe.features,
                },
            ]
        )

    def __call__(self, scene: Mapping[str, Any]) -> dict[str, Any]:
        cells = self.cells(scene)
        batch = self.batch(cells, np.arange(len(cells)))
        batch["inverse"] = torch.from_numpy(cells.inverse)
        return batch

    def cells(self, scene: Mapping[str, Any]) -> Cells:
        """Take one point of every cell and complete its features."""
        scene = {key: np.asarray(value) for key, value in scene.items()}
        problem = scene_problem(scene)
        if problem:
            raise UserError(f"the cloud {problem.replace('.npy', '')}")
        coord, corner = near_origin(scene["coord"])
        coord = np.ascontiguousarray(coord, np.float32)
        # transforms may change what they are given
        given = {"coord": coord.copy(), "index": np.arange(len(coord))}
        assumed = []
        for name in self.recipe.features:
            if name == "coord":
                continue
            if name in scene:
                given[name] = _typed(name, scene[name])
            elif name in _MADE_UP:
                value, columns, words = _MADE_UP[name]
                given[name] = np.full((len(coord), columns), value, np.float32)
                assumed.append(words)
        with seeded(0):
            found = self._before({**given, "index_valid_keys": list(given)})
            found = self._grid(found)
        row = np.asarray(found["index"])
        arrays = {"grid_coord": np.asarray(found["grid_coord"])}
        for name in ("coord", *self.recipe.features):
            if name in found:
                arrays[name] = np.ascontiguousarray(found[name], np.float32)
            elif name == "normal":
                # of the taken points alone: what precedes the grid does not turn them
                arrays[name] = self._normals(coord, row, corner)
                assumed.append("normals are estimated")
            else:
                raise UserError(
                    f"the network was trained with {name!r} for every point, which the "
                    "cloud does not have and which cannot be made up"
                )
        return Cells(row, np.asarray(found["inverse"]), arrays, tuple(assumed))

    def _normals(
        self, coord: np.ndarray, row: np.ndarray, corner: np.ndarray
    ) -> np.ndarray:
        eye = self.recipe.viewpoint
        eye = None if eye is None else np.asarray(eye) - corner
        return estimate_normals(coord, self.recipe.normal_neighbours, eye, row)

    def batch(self, cells: Cells, rows: np.ndarray) -> dict[str, Any]:
        """Return some cells as a batch of one cloud; their grid starts at zero."""
        data = {name: array[rows] for name, array in cells.arrays.items()}
        data["grid_coord"] = data["grid_coord"] - data["grid_coord"].min(0)
        with seeded(0):
            return collate_fn([self._after(data)])


def _typed(name: str, values: np.ndarray) -> np.ndarray:
    """Return a copy of a scene's array as networks are trained with it."""
    copied = np.array(values, np.float32, order="C")
    if name == "color":
        copied = copied[:, :3]
        return copied * 255 if color_range(values) == "0-1" else copied
    if name == "strength":
        return copied.reshape(len(copied), -1) / strength_range(values)
    return copied
