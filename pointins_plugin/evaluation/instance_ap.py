"""Instance average precision by the ScanNet procedure: NumPy in, numbers out.

The procedure (ScanNet benchmark, `evaluate_semantic_instance.py`): predictions and
ground truth of one class are matched greedily at a strict IoU threshold; a second
prediction on a matched instance is a false positive; a prediction that matches nothing
is forgiven when most of it lies on void or on instances under the size limit.

Points are visited once: everything after that works on the few non-empty
(prediction, instance) overlaps. `scene_overlaps` keeps only those, so scenes can be
streamed, gathered over processes and scored together by `average_precision`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from ..errors import UserError

# Strict IoU thresholds .50, .55, ... .90 (averaged into mAP), then .25.
IOU_THRESHOLDS = np.append(np.arange(0.5, 0.95, 0.05), 0.25)
_AP50, _AP25 = 0, len(IOU_THRESHOLDS) - 1


@dataclass(frozen=True)
class SceneOverlaps:
    """What average precision needs to know of one scene; a few kilobytes.

    Pairs are the (instance, prediction) couples of one class that share points, in
    the order in which the procedure matches them.
    """

    gt_class: np.ndarray  # (G,)
    gt_size: np.ndarray  # (G,) points
    pred_class: np.ndarray  # (P,)
    pred_size: np.ndarray  # (P,) points
    pred_score: np.ndarray  # (P,)
    pred_void: np.ndarray  # (P,) points on ignored classes
    pair_gt: np.ndarray  # (E,)
    pair_pred: np.ndarray  # (E,)
    pair_points: np.ndarray  # (E,) shared points


def instance_average_precision(
    scenes: Iterable[Mapping],
    num_classes: int,
    ignore_classes: Sequence[int] = (),
    min_region: int = 100,
) -> dict:
    """Average precision of predicted instance masks over scenes.

    Args:
        scenes: Iterable (a generator will do) of mappings with `segment` (N,) class
            per point, `instance` (N,) instance id per point (-1 = none), `masks` as
            (K, N) dense array, (K, N) SciPy sparse matrix or K arrays of point
            indices, `classes` (K,) and `scores` (K,).
        num_classes: Classes are 0 ... num_classes - 1; any other label is void.
        ignore_classes: Classes that are void: their points excuse a prediction, their
            instances and predictions do not count.
        min_region: Instances and predictions of fewer points are left out.

    Returns:
        `map` (thresholds .50:.05:.90), `ap50`, `ap25`: means over the classes that
        have ground truth, nan when none has; `per_class` (C, 3) the same three per
        class, nan without ground truth, 0 with ground truth but no prediction;
        `class_ids` (C,).

    Raises:
        UserError: Arrays of a scene do not fit together.
    """
    overlaps = [
        scene_overlaps(scene, num_classes, ignore_classes, min_region)
        for scene in scenes
    ]
    return average_precision(overlaps, num_classes, ignore_classes, min_region)


def class_agnostic(scenes: Iterable[Mapping], things: Sequence[int] | None = None):
    """Scenes with one class, 0 = thing; everything else becomes void (-1).

    Score them with `num_classes=1`. A prediction that lies mostly on stuff or on
    unlabelled points is then forgiven, as void is in the ScanNet protocol.

    Args:
        scenes: As in `instance_average_precision`; `classes` is not needed, and
            `segment` only with `things`.
        things: Classes that count as things. None: every point with an instance.

    Yields:
        One mapping a scene.
    """
    for scene in scenes:
        instance = np.asarray(scene["instance"])
        thing = instance >= 0
        if things is not None:
            thing &= np.isin(np.asarray(scene["segment"]), list(things))
        scores = np.asarray(scene["scores"])
        yield {
            **scene,
            "segment": np.where(thing, 0, -1),
            "instance": np.where(thing, instance, -1),
            "classes": np.zeros(len(scores), dtype=np.int64),
            "scores": scores,
        }


def scene_overlaps(
    scene: Mapping,
    num_classes: int,
    ignore_classes: Sequence[int] = (),
    min_region: int = 100,
) -> SceneOverlaps:
    """Return the contingency table of one scene; arguments as above."""
    segment = _labels(scene, "segment")
    instance = _labels(scene, "instance")
    num_points = len(segment)
    name = scene.get("name", "a scene")
    if len(instance) != num_points:
        raise UserError(
            f"instance AP, {name}: segment has {num_points} points, instance "
            f"{len(instance)}; give both the same length"
        )
    scores = np.asarray(scene["scores"], dtype=np.float64).reshape(-1)
    classes = np.asarray(scene["classes"]).reshape(-1).astype(np.int64)
    if np.isnan(scores).any():
        raise UserError(f"instance AP, {name}: a score is NaN; give finite scores")

    valid = np.zeros(num_classes, dtype=bool)
    valid[_valid_classes(num_classes, ignore_classes)] = True
    void = ~_lookup(valid, segment)
    gt_class, gt_size, column = _ground_truth(segment, instance, valid)
    num_gt = len(gt_class)

    # One code a point: its instance (num_gt = none) and whether it is void.
    code = 2 * column + void
    width = 2 * (num_gt + 1)
    counts, num_masks = _contingency(scene["masks"], code, width, name)
    if not len(classes) == len(scores) == num_masks:
        raise UserError(
            f"instance AP, {name}: {num_masks} masks, {len(classes)} classes, "
            f"{len(scores)} scores; give one of each per prediction"
        )
    counts = counts.reshape(num_masks, num_gt + 1, 2)
    size = counts.sum(axis=(1, 2))
    keep = _lookup(valid, classes) & (size >= max(min_region, 1))
    counts, classes = counts[keep], classes[keep]

    shared = counts[:, :num_gt].sum(axis=2).T  # (G, P)
    shared = shared * (gt_class[:, None] == classes[None, :])
    pair_gt, pair_pred = np.nonzero(shared)
    return SceneOverlaps(
        gt_class=gt_class,
        gt_size=gt_size,
        pred_class=classes,
        pred_size=size[keep],
        pred_score=scores[keep],
        pred_void=counts[:, :, 1].sum(axis=1),
        pair_gt=pair_gt,
        pair_pred=pair_pred,
        pair_points=shared[pair_gt, pair_pred],
    )


def average_precision(
    overlaps: Sequence[SceneOverlaps],
    num_classes: int,
    ignore_classes: Sequence[int] = (),
    min_region: int = 100,
) -> dict:
    """Scores scenes reduced by `scene_overlaps` (returns as the module's main call)."""
    class_ids = _valid_classes(num_classes, ignore_classes)
    merged = _concatenate(overlaps)
    counted = merged.gt_size >= min_region
    union = (
        merged.gt_size[merged.pair_gt]
        + merged.pred_size[merged.pair_pred]
        - merged.pair_points
    )
    iou = merged.pair_points / union
    small = ~counted[merged.pair_gt]
    ignored = merged.pred_void + np.bincount(
        merged.pair_pred[small],
        weights=merged.pair_points[small],
        minlength=len(merged.pred_size),
    )
    ignored_share = ignored / merged.pred_size
    num_gt = np.bincount(merged.gt_class[counted], minlength=num_classes)
    num_pred = np.bincount(merged.pred_class, minlength=num_classes)

    table = np.full((len(class_ids), len(IOU_THRESHOLDS)), np.nan)
    for t, threshold in enumerate(IOU_THRESHOLDS):
        hit = iou > threshold
        correct, wrong, wrong_class = _match(
            merged.pair_gt[hit & ~small], merged.pair_pred[hit & ~small], merged
        )
        found = np.zeros(len(merged.pred_size), dtype=bool)
        found[merged.pair_pred[hit]] = True
        lost = ~found & (ignored_share <= threshold)
        wrong = np.concatenate([wrong, merged.pred_score[lost]])
        wrong_class = np.concatenate([wrong_class, merged.pred_class[lost]])
        matched = np.isfinite(correct) | (correct == np.inf)
        for c, class_id in enumerate(class_ids):
            if num_gt[class_id] == 0:
                continue
            if num_pred[class_id] == 0:
                table[c, t] = 0.0
                continue
            table[c, t] = _area(
                correct[matched & (merged.gt_class == class_id)],
                wrong[wrong_class == class_id],
                num_gt[class_id],
            )

    per_class = np.stack(
        [table[:, :_AP25].mean(axis=1), table[:, _AP50], table[:, _AP25]], axis=1
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing is nan
        means = [
            float(np.nanmean(part))
            for part in (table[:, :_AP25], table[:, _AP50], table[:, _AP25])
        ]
    return {
        "map": means[0],
        "ap50": means[1],
        "ap25": means[2],
        "per_class": per_class,
        "class_ids": class_ids,
    }


def _match(pair_gt, pair_pred, merged):
    """Greedy matching of the pairs over one threshold.

    Returns the score of each instance's match ((G,), nan = unmatched) and the scores
    and classes of the surplus predictions on instances already matched. A prediction
    that was the first on one instance is spent; a surplus one is not.
    """
    matched = np.full(len(merged.gt_size), np.nan)
    surplus, surplus_class = [], []
    spent = set()
    best: dict[int, float] = {}
    scores = merged.pred_score[pair_pred].tolist()
    gt_class = merged.gt_class
    for gt, pred, score in zip(
        pair_gt.tolist(), pair_pred.tolist(), scores, strict=True
    ):
        if pred in spent:
            continue
        if gt not in best:
            best[gt] = score
            spent.add(pred)
            continue
        surplus.append(min(best[gt], score))
        surplus_class.append(gt_class[gt])
        best[gt] = max(best[gt], score)
    if best:
        matched[list(best)] = list(best.values())
    return (
        matched,
        np.array(surplus, dtype=np.float64),
        np.array(surplus_class, dtype=np.int64),
    )


def _area(correct: np.ndarray, wrong: np.ndarray, num_gt: int) -> float:
    """Area under precision over recall, one point a distinct score, plus (0, 1).

    Recall steps are central differences, as in the reference procedure.
    """
    levels = np.unique(np.concatenate([correct, wrong]))
    true = len(correct) - np.searchsorted(np.sort(correct), levels)
    false = len(wrong) - np.searchsorted(np.sort(wrong), levels)
    precision = np.append(true / np.maximum(true + false, 1), 1.0)
    recall = np.append(true / num_gt, 0.0)
    padded = np.concatenate([recall[:1], recall, [0.0]])
    return float(np.dot(precision, (padded[:-2] - padded[2:]) / 2))


def _labels(scene: Mapping, key: str) -> np.ndarray:
    return np.asarray(scene[key]).reshape(-1)


def _valid_classes(num_classes: int, ignore_classes: Sequence[int]) -> np.ndarray:
    return np.setdiff1d(
        np.arange(num_classes), np.asarray(list(ignore_classes), dtype=np.int64)
    )


def _lookup(table: np.ndarray, index: np.ndarray) -> np.ndarray:
    """table[index], False outside the table (an appended False catches both ends)."""
    padded = np.append(table, False)
    index = index.astype(np.int64)
    index[(index < 0) | (index >= len(table))] = len(table)
    return padded[index]


def _ground_truth(segment, instance, valid):
    """Class and size per counted instance in order of id, and (N,) instance index.

    The class of an instance is that of its first point. Points of no counted
    instance get the index G.
    """
    ids, index, sizes = _unique_inverse(instance)
    first = np.zeros(len(ids), dtype=np.int64)
    # Written backwards, so that the first point of each instance is what stays.
    first[index[::-1]] = np.arange(len(index))[::-1]
    classes = segment[first].astype(np.int64) if len(ids) else first
    counted = (ids != -1) & _lookup(valid, classes)
    rank = np.where(counted, np.cumsum(counted) - 1, np.count_nonzero(counted))
    return classes[counted], sizes[counted], rank[index]


def _unique_inverse(values: np.ndarray):
    """np.unique with inverse and counts, linear in the points for compact ids."""
    if len(values) == 0:
        empty = np.zeros(0, dtype=np.int64)
        return empty, empty, empty
    values = values.astype(np.int64)
    low, high = int(values.min()), int(values.max())
    if high - low > 4 * len(values) + 1024:
        ids, inverse, counts = np.unique(
            values, return_inverse=True, return_counts=True
        )
        return ids, inverse.reshape(-1), counts
    counts = np.bincount(values - low, minlength=high - low + 1)
    present = np.flatnonzero(counts)
    rank = np.zeros(len(counts), dtype=np.int64)
    rank[present] = np.arange(len(present))
    return present + low, rank[values - low], counts[present]


def _contingency(masks, code, width, name):
    """Points per (mask, code): (K, width) int64, and K."""
    num_points = len(code)
    if sparse.issparse(masks):
        masks = sparse.csr_matrix(masks, copy=not masks.has_canonical_format)
        if masks.shape[1] != num_points:
            raise _width_error(name, masks.shape[1], num_points)
        masks.sum_duplicates()
        rows = np.repeat(np.arange(masks.shape[0]), np.diff(masks.indptr))
        points = masks.indices
        if not masks.data.all():
            rows, points = rows[masks.data != 0], points[masks.data != 0]
        return _count(rows, points, masks.shape[0], code, width), masks.shape[0]

    if isinstance(masks, list | tuple) and not _is_dense(masks, num_points):
        counts = np.zeros((len(masks), width), dtype=np.int64)
        seen = np.zeros(num_points, dtype=bool)
        for k, points in enumerate(masks):
            points = np.asarray(points).reshape(-1)
            if len(points) == 0:
                continue
            if points.min() < 0 or points.max() >= num_points:
                raise _width_error(name, int(points.max()) + 1, num_points)
            counts[k] = np.bincount(code[points], minlength=width)
            seen[points] = True
            distinct = np.count_nonzero(seen)
            seen[points] = False
            if distinct != len(points):  # an index named twice is still one point
                counts[k] = np.bincount(code[np.unique(points)], minlength=width)
        return counts, len(masks)

    masks = np.asarray(masks)
    if masks.size == 0:
        return np.zeros((len(masks), width), dtype=np.int64), len(masks)
    if masks.ndim != 2 or masks.shape[1] != num_points:
        raise _width_error(name, masks.shape[-1], num_points)
    counts = np.empty((len(masks), width), dtype=np.int64)
    for k, mask in enumerate(masks):
        counts[k] = np.bincount(code[np.flatnonzero(mask)], minlength=width)
    return counts, len(masks)


def _is_dense(masks, num_points: int) -> bool:
    """A list of boolean rows is a dense matrix, a list of indices is not."""
    return all(np.asarray(mask).dtype == bool for mask in masks) and all(
        len(mask) == num_points for mask in masks
    )


def _count(rows, points, num_rows, code, width):
    flat = rows * width + code[points]
    return np.bincount(flat, minlength=num_rows * width).reshape(num_rows, width)


def _width_error(name, found, expected):
    return UserError(
        f"instance AP, {name}: masks cover {found} points, the labels {expected}; "
        "give masks over the labelled points"
    )


def _concatenate(overlaps: Sequence[SceneOverlaps]) -> SceneOverlaps:
    """All scenes as one, indices moved on."""
    if not overlaps:
        none = np.zeros(0, dtype=np.int64)
        return SceneOverlaps(
            none, none, none, none, none.astype(float), none, none, none, none
        )
    gt_start = np.cumsum([0] + [len(o.gt_size) for o in overlaps])
    pred_start = np.cumsum([0] + [len(o.pred_size) for o in overlaps])

    def join(name):
        return np.concatenate([getattr(o, name) for o in overlaps])

    return SceneOverlaps(
        gt_class=join("gt_class"),
        gt_size=join("gt_size"),
        pred_class=join("pred_class"),
        pred_size=join("pred_size"),
        pred_score=join("pred_score"),
        pred_void=join("pred_void"),
        pair_gt=np.concatenate(
            [o.pair_gt + s for o, s in zip(overlaps, gt_start, strict=False)]
        ),
        pair_pred=np.concatenate(
            [o.pair_pred + s for o, s in zip(overlaps, pred_start, strict=False)]
        ),
        pair_points=join("pair_points"),
    )
