"""Predicted instances of one scene beside its labels, as instance AP takes them."""

from typing import Any

import numpy as np
from scipy.spatial import cKDTree


def label_masks(label: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the labels that occur and the points of each.

    Args:
        label: (N,) instance of every point, negative for none.

    Returns:
        (K,) labels in rising order and K arrays of rising point indices.
    """
    order = np.argsort(label, kind="stable")
    order = order[np.searchsorted(label[order], 0) :]
    if not len(order):
        return np.zeros(0, dtype=np.int64), []
    names, start = np.unique(label[order], return_index=True)
    return names.astype(np.int64), np.split(order, start[1:])


def predicted_scene(
    prediction: Any,
    classes: np.ndarray,
    scores: np.ndarray,
    segment: np.ndarray,
    instance: np.ndarray,
    nearest: np.ndarray | None = None,
) -> dict[str, Any]:
    """Describe predicted instances for ``instance_average_precision``.

    Args:
        prediction: (N,) instance of every point, -1 for none, or (K, N) masks.
        classes, scores: (K,).
        segment, instance: (M,) true labels, -1 for no instance.
        nearest: (M,) predicted point for every labelled one; None where they are the
            same points.
    """
    prediction = np.asarray(prediction)
    if prediction.ndim == 1:
        label = prediction if nearest is None else prediction[nearest]
        rows, masks = label_masks(label)
    else:
        kept = [np.flatnonzero(_pick(mask, nearest)) for mask in prediction]
        rows = np.flatnonzero([len(mask) > 0 for mask in kept]).astype(np.int64)
        masks = [kept[row] for row in rows]
    return {
        "segment": np.asarray(segment),
        "instance": np.asarray(instance),
        "masks": masks,
        "classes": np.asarray(classes)[rows],
        "scores": np.asarray(scores)[rows],
    }


def _pick(mask: np.ndarray, nearest: np.ndarray | None) -> np.ndarray:
    return mask if nearest is None else mask[nearest]


def nearest_points(query: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return for every query point (M, 3) the nearest reference point (N, 3)."""
    tree = cKDTree(np.asarray(reference, np.float64), balanced_tree=False)
    return tree.query(np.asarray(query, np.float64))[1]


def batch_scenes(batch: dict[str, Any], output: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the scenes of a batch of a PointGroup model, one a cloud.

    Args:
        batch: NumPy arrays ``coord`` (N, 3), ``offset`` (B,) cumulative, ``segment``
            and ``instance`` (N,), or ``origin_coord``, ``origin_segment``,
            ``origin_instance`` (M, ...) and ``origin_offset`` where labels lie on
            other points, to which predictions are carried by the nearest point;
            ``name`` where scenes have one.
        output: ``pred_instance`` (N,) or ``pred_masks`` (K, N); ``pred_classes`` and
            ``pred_scores`` (K,).
    """
    key = "pred_instance" if "pred_instance" in output else "pred_masks"
    prediction = output[key]
    prefix = "origin_" if "origin_coord" in batch else ""
    scenes, start, origin_start = [], 0, 0
    origin_ends = batch[f"{prefix}offset"]
    for index, (end, origin_end) in enumerate(
        zip(batch["offset"], origin_ends, strict=True)
    ):
        rows, labelled = slice(start, end), slice(origin_start, origin_end)
        nearest = None
        if prefix:
            nearest = nearest_points(
                batch["origin_coord"][labelled], batch["coord"][rows]
            )
        scene = predicted_scene(
            prediction[..., rows],
            output["pred_classes"],
            output["pred_scores"],
            batch[f"{prefix}segment"][labelled],
            batch[f"{prefix}instance"][labelled],
            nearest,
        )
        if "name" in batch:
            scene["name"] = batch["name"][index]
        scenes.append(scene)
        start, origin_start = end, origin_end
    return scenes
