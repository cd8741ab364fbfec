"""Predicted panoptic segments carried to the points that were labelled."""

from typing import Any

import numpy as np

from ..errors import UserError
from .instance_scene import nearest_points
from .panoptic_quality import PanopticQuality


def original_points(batch: dict[str, Any]) -> list[tuple[str, np.ndarray]]:
    """Return name and, for every original point, its predicted row of each cloud.

    A batch that was sampled carries ``inverse``, the sampled point of each original
    one, or else ``origin_coord``, whose nearest sampled points are taken; without
    either the points are the original ones.

    Args:
        batch: NumPy arrays ``offset`` (B,) cumulative counts of predicted points, and
            ``origin_offset`` (B,) of the original ones where they are others;
            ``name`` where scans have one.

    Raises:
        UserError: several clouds of original points, but no ``origin_offset``.
    """
    ends = np.asarray(batch["offset"])
    starts = np.append(0, ends[:-1])
    names = batch.get("name", [str(index) for index in range(len(ends))])
    names = [names] if isinstance(names, str) else list(names)
    key = next((k for k in ("inverse", "origin_coord") if k in batch), None)
    if key is None:
        rows = [np.arange(start, end) for start, end in zip(starts, ends, strict=True)]
        return list(zip(names, rows, strict=True))
    if "origin_offset" in batch:
        cuts = np.asarray(batch["origin_offset"])
    elif len(ends) == 1:
        cuts = np.array([len(batch[key])])
    else:
        raise UserError(
            f"batches have {key!r} of {len(ends)} scans but no 'origin_offset'; add "
            "origin_offset to offset_keys_dict of Collect, or evaluate scan by scan"
        )
    result = []
    for name, start, end, low, high in zip(
        names, starts, ends, np.append(0, cuts[:-1]), cuts, strict=True
    ):
        of_scan = batch[key][low:high]
        if key == "origin_coord":
            of_scan = nearest_points(of_scan, batch["coord"][start:end])
        result.append((name, start + of_scan))
    return result


def panoptic_scenes(
    batch: dict[str, Any], output: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the scans of a batch: what was predicted beside what is true.

    Args:
        batch: as ``original_points`` takes it, with ``origin_segment`` and
            ``origin_instance`` (M,), or ``segment`` and ``instance`` where points were
            not sampled, and ``panoptic`` likewise where the data set has it; without
            labels the true entries are left out.
        output: ``pred_segment`` and ``pred_instance`` (N,).

    Returns:
        For each scan ``name``, ``pred_segment``, ``pred_instance`` and, where labels
        are, ``segment``, ``instance`` and ``panoptic``, all (M',).
    """
    start, scenes = 0, []
    sampled = "inverse" in batch or "origin_coord" in batch
    prefix = "origin_" if sampled else ""
    for name, rows in original_points(batch):
        part = slice(start, start + len(rows))
        start += len(rows)
        scene = {
            "pred_segment": np.asarray(output["pred_segment"])[rows],
            "pred_instance": np.asarray(output["pred_instance"])[rows],
            **{
                key: np.asarray(batch[f"{prefix}{key}"])[part]
                for key in ("segment", "instance", "panoptic")
                if f"{prefix}{key}" in batch
            },
        }
        scenes.append({"name": name, **scene})
    return scenes


def add_scene(score: PanopticQuality, scene: dict[str, Any], owner: str) -> None:
    """Count a scan of ``panoptic_scenes`` as the benchmarks do.

    The segments of a class are its raw labels, ``panoptic``; without that its
    instances, and the points of a thing class that have none are one segment of it.

    Raises:
        UserError: the scan has no labels; ``owner`` asked for them.
    """
    for key in ("segment", "instance"):
        if key not in scene:
            raise UserError(
                f"{owner}: batches have no {key!r} of the original points; copy and "
                f"collect origin_{key} in the transform of the data"
            )
    # -1 becomes 0, the benchmarks' id of no instance, which is a segment
    score.update(
        scene["pred_segment"],
        scene["pred_instance"] + 1,
        scene["segment"],
        scene.get("panoptic", scene["instance"]) + 1,
    )
