"""Instances without labels: groupings of offsets, baselines, and how good they are."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from pointins_plugin.errors import UserError
from pointins_plugin.evaluation.instance_ap import instance_average_precision
from pointins_plugin.evaluation.instance_scene import label_masks
from pointins_plugin.ops.components import group_points
from pointins_plugin.ops.mean_shift import mean_shift_modes


def true_offsets(coord: np.ndarray, instance: np.ndarray) -> np.ndarray:
    """Return the offset of every point to its instance's centroid.

    Args:
        coord: (N, 3) metres.
        instance: (N,) ids, negative for none.

    Returns:
        (N, 3) metres, zero where there is no instance.
    """
    offset = np.zeros((len(coord), 3))
    inside = np.asarray(instance) >= 0
    if not inside.any():
        return offset
    _, index = np.unique(instance[inside], return_inverse=True)
    points = coord[inside].astype(np.float64)
    count = np.bincount(index)
    centroid = [np.bincount(index, points[:, axis]) / count for axis in range(3)]
    offset[inside] = np.stack(centroid, axis=1)[index] - points
    return offset


class OffsetScore:
    """R^2 and cosine of offsets over the things of many scenes.

    ``R^2 = 1 - sum |o - o*|^2 / sum |o* - mean o*|^2`` over all thing points of all
    scenes pooled; the cosine is averaged over the same points.
    """

    def __init__(self):
        self._error = self._square = self._cosine = 0.0
        self._sum = np.zeros(3)
        self._count = 0

    def update(self, shift: np.ndarray, target: np.ndarray, mask: np.ndarray) -> None:
        """Add a scene: predicted and true offsets (N, 3) and its thing points (N,)."""
        shift, target = (np.asarray(x, np.float64)[mask] for x in (shift, target))
        self._error += np.square(shift - target).sum()
        self._square += np.square(target).sum()
        self._sum += target.sum(0)
        self._count += len(target)
        norms = np.linalg.norm(shift, axis=1) * np.linalg.norm(target, axis=1)
        inner = (shift * target).sum(1)
        self._cosine += (inner / np.where(norms > 0, norms, 1)).sum()

    def compute(self) -> dict[str, float]:
        """Return ``offset_r2`` and ``offset_cosine``, NaN where nothing was added."""
        if self._count < 2:
            return {"offset_r2": float("nan"), "offset_cosine": float("nan")}
        spread = self._square - np.square(self._sum).sum() / self._count
        return {
            "offset_r2": 1 - self._error / spread if spread > 0 else float("nan"),
            "offset_cosine": self._cosine / self._count,
        }


def offset_instances(
    coord: np.ndarray,
    shift: np.ndarray,
    plane: np.ndarray | None,
    method: str = "components",
    radius: float = 0.05,
    bandwidth: float = 0.1,
    min_size: int = 20,
) -> np.ndarray:
    """Group points by their shifted centres.

    Args:
        coord, shift: (N, 3) metres.
        plane: (N,) bool, points of dominant planes, which have no instance; or None.
        method: ``"components"`` (centres nearer than ``radius``, transitively) or
            ``"modes"`` (mean shift of ``bandwidth``), metres.
        min_size: fewest points of an instance.

    Returns:
        (N,) instance of every point, -1 for none.
    """
    label = np.full(len(coord), -1, dtype=np.int64)
    rows = np.arange(len(coord)) if plane is None else np.flatnonzero(~plane)
    centre = coord[rows] + shift[rows]
    if method == "components":
        label[rows] = group_points(centre, radius, min_size=min_size)
    elif method == "modes":
        label[rows] = mean_shift_modes(centre, bandwidth, min_size=min_size)
    else:
        raise ValueError(f"method must be 'components' or 'modes', found {method!r}")
    return label


def hdbscan_instances(
    coord: np.ndarray, min_size: int = 20, max_points: int = 20000, seed: int = 0
) -> np.ndarray:
    """Group the points of a whole cloud by HDBSCAN on their coordinates.

    The paper's label-free baseline. Larger clouds are thinned to ``max_points`` and
    every other point follows the nearest kept one.

    Returns:
        (N,) instance of every point, -1 for noise.

    Raises:
        UserError: scikit-learn is missing.
    """
    try:
        from sklearn.cluster import HDBSCAN
    except ImportError:
        raise UserError(
            'the HDBSCAN baseline needs scikit-learn: pip install "pointins[demo]"'
        ) from None
    from scipy.spatial import cKDTree

    if len(coord) < max(min_size, 2):
        return np.full(len(coord), -1, dtype=np.int64)
    points, size = coord, min_size
    if len(coord) > max_points:
        rng = np.random.default_rng(seed)
        points = coord[rng.choice(len(coord), max_points, replace=False)]
        size = max(5, round(min_size * max_points / len(coord)))
    label = HDBSCAN(min_cluster_size=size, copy=True).fit_predict(points)
    if len(points) < len(coord):
        label = label[cKDTree(points).query(coord)[1]]
    return label.astype(np.int64)


def scene_prediction(label: np.ndarray, instance: np.ndarray) -> dict[str, Any]:
    """Describe a grouping beside the truth for ``instance_average_precision``.

    Class agnostic: every instance is of class 0, points without one (walls, floors,
    tables, unlabelled) are void. An instance's score is its size.

    Args:
        label: (N,) predicted instance, -1 for none.
        instance: (N,) true instance, negative for none.
    """
    _, masks = label_masks(label)
    return {
        "segment": np.where(instance >= 0, 0, -1),
        "instance": np.where(instance >= 0, instance, -1),
        "masks": masks,
        "classes": np.zeros(len(masks), dtype=int),
        "scores": np.array([len(mask) for mask in masks], dtype=float),
    }


def agnostic_ap(
    predictions: Iterable[Mapping[str, Any]], min_region: int = 20
) -> dict[str, float]:
    """Return ``map``, ``ap50``, ``ap25`` (percent) of ``scene_prediction`` scenes."""
    result = instance_average_precision(
        predictions, num_classes=1, min_region=min_region
    )
    return {key: 100 * float(result[key]) for key in ("map", "ap50", "ap25")}


BASELINES: dict[str, Callable] = {
    "hdbscan": lambda scene, options: hdbscan_instances(
        scene["coord"], options["min_size"]
    ),
    "plane_components": lambda scene, options: offset_instances(
        scene["coord"],
        np.zeros_like(scene["coord"]),
        scene["plane"],
        radius=options["baseline_radius"],
        min_size=options["min_size"],
    ),
    "oracle": lambda scene, options: offset_instances(
        scene["coord"],
        true_offsets(scene["coord"], scene["instance"]),
        scene["plane"],
        radius=options["radius"],
        min_size=options["min_size"],
    ),
}

TITLES = {
    "components": "offsets, components",
    "modes": "offsets, mean-shift modes",
    "hdbscan": "HDBSCAN on coordinates",
    "plane_components": "components, {background} removed",
    "oracle": "true offsets, components",
}


def format_table(
    rows: Mapping[str, Mapping[str, float]], background: str = "planes"
) -> str:
    """Return Markdown of AP, AP50 and AP25 by method; what was removed is named."""
    lines = [
        f"| {'label-free instances':<28} |    AP |  AP50 |  AP25 |",
        f"|{'-' * 30}|------:|------:|------:|",
    ]
    for name, row in rows.items():
        values = " | ".join(f"{row[key]:5.1f}" for key in ("map", "ap50", "ap25"))
        title = TITLES.get(name, name).format(background=background)
        lines.append(f"| {title:<28} | {values} |")
    return "\n".join(lines)
