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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from .mask_overlaps import count_overlaps, known, true_instances

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

    valid = _counted(num_classes, ignore_classes)
    gt_class, gt_size, codes = true_instances(segment, instance, valid)
    masks = scene["masks"]
    num_masks = masks.shape[0] if hasattr(masks, "shape") else len(masks)
    if not len(classes) == len(scores) == num_masks:
        raise UserError(
            f"instance AP, {name}: {num_masks} masks, {len(classes)} classes, "
            f"{len(scores)} scores; give one of each per prediction"
        )
    size, in_void, shared = count_overlaps(masks, codes, gt_class, classes, name)
    keep = known(valid, classes) & (size >= max(min_region, 1))
    classes, shared = classes[keep], shared[:, keep]
    shared = shared * (gt_class[:, None] == classes[None, :])
    pair_gt, pair_pred = np.nonzero(shared)
    return SceneOverlaps(
        gt_class=gt_class,
        gt_size=gt_size,
        pred_class=classes,
        pred_size=size[keep],
        pred_score=scores[keep],
        pred_void=in_void[keep],
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
    class_ids = np.flatnonzero(_counted(num_classes, ignore_classes))
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

    # All thresholds at once: each has its own copy of instances and predictions, which
    # are told apart by one number; scores are compared by their rank.
    num_levels, num_all_gt = len(IOU_THRESHOLDS), len(merged.gt_size)
    num_all_pred = len(merged.pred_size)
    order = np.argsort(merged.pred_score, kind="stable")
    rank = np.empty(num_all_pred, dtype=np.int64)
    rank[order] = np.arange(num_all_pred)
    level, pair = np.nonzero(iou > IOU_THRESHOLDS[:, None])
    found = np.zeros((num_levels, num_all_pred), dtype=bool)
    found[level, merged.pair_pred[pair]] = True
    level, pair = level[~small[pair]], pair[~small[pair]]
    best, rival_gt, rival_rank = _match(
        level * num_all_gt + merged.pair_gt[pair],
        level * num_all_pred + merged.pair_pred[pair],
        rank[merged.pair_pred[pair]],
        num_levels * num_all_gt,
        num_all_pred,
    )
    matched = np.flatnonzero(best >= 0)
    lost_level, lost = np.nonzero(~found & (ignored_share <= IOU_THRESHOLDS[:, None]))
    gt = np.concatenate([matched, rival_gt])
    group = (gt // max(num_all_gt, 1)) * num_classes
    group += merged.gt_class[gt % max(num_all_gt, 1)]
    true = np.zeros(len(gt) + len(lost), dtype=bool)
    true[: len(matched)] = True
    areas = _areas(
        np.concatenate([group, lost_level * num_classes + merged.pred_class[lost]]),
        np.concatenate([best[matched], rival_rank, rank[lost]]),
        true,
        merged.pred_score[order],
        np.tile(num_gt, num_levels),
    )
    # Without a prediction (of the size that counts) the area is 0, as it should be.
    table = areas.reshape(num_levels, num_classes).T[class_ids]
    table[num_gt[class_ids] == 0] = np.nan
    table[(num_gt[class_ids] > 0) & (num_pred[class_ids] == 0)] = 0

    parts = (table[:, :_AP25], table[:, _AP50], table[:, _AP25])
    seen = num_gt[class_ids] > 0
    means = [float(part[seen].mean()) if seen.any() else np.nan for part in parts]
    per_class = np.stack([parts[0].mean(axis=1), *parts[1:]], axis=1)
    return {
        "map": means[0],
        "ap50": means[1],
        "ap25": means[2],
        "per_class": per_class,
        "class_ids": class_ids,
    }


def _match(
    gt: np.ndarray, pred: np.ndarray, rank: np.ndarray, num_gt: int, num_ranks: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Greedy matching of the pairs over each threshold.

    Args:
        gt, pred, rank: (H,) instance, prediction and the rank of its score, of every
            pair that counts, by threshold and in order of instances.
        num_gt, num_ranks: of all instances and ranks.

    Returns the rank of each instance's match ((num_gt,), -1 = unmatched), and of the
    surplus predictions on instances already matched their instance and rank. A
    prediction that was the first on one instance is spent; a surplus one is not.
    """
    best = np.full(num_gt, -1, dtype=np.int64)
    # A prediction over the threshold on two instances (so below one half) is spent on
    # the first: such instances take turns. On others all but the best are surplus.
    torn = np.bincount(pred, minlength=1)[pred] > 1
    in_turn = np.zeros(num_gt, dtype=bool)
    in_turn[gt[torn]] = True
    slow = in_turn[gt]
    easy = np.sort(gt[~slow] * num_ranks + rank[~slow])
    owner = easy // max(num_ranks, 1)
    last = np.ones(len(easy), dtype=bool)
    np.not_equal(owner[1:], owner[:-1], out=last[:-1])
    easy -= owner * num_ranks
    best[owner[last]] = easy[last]
    turns: dict[int, int] = {}
    spent, rival_gt, rival_rank = set(), [], []
    rows = (values[slow].tolist() for values in (gt, pred, rank))
    for g, p, r in zip(*rows, strict=True):
        if p in spent:
            continue
        if g not in turns:
            turns[g] = r
            spent.add(p)
            continue
        rival_gt.append(g)
        rival_rank.append(min(turns[g], r))
        turns[g] = max(turns[g], r)
    best[list(turns)] = list(turns.values())
    return (
        best,
        np.append(owner[~last], np.array(rival_gt, dtype=np.int64)),
        np.append(easy[~last], np.array(rival_rank, dtype=np.int64)),
    )


def _areas(
    group: np.ndarray,
    rank: np.ndarray,
    true: np.ndarray,
    score: np.ndarray,
    num_gt: np.ndarray,
) -> np.ndarray:
    """Areas under precision over recall of groups of scored predictions.

    Curves have one point a distinct score, plus (0, 1); recall steps are central
    differences, as in the reference procedure.

    Args:
        group, rank, true: (E,) of each prediction; `true` where it is a match.
        score: (R,) scores by rank.
        num_gt: (Q,) instances of each group.

    Returns:
        (Q,) areas, 0 of groups without predictions or instances.
    """
    if len(group) == 0:
        return np.zeros(len(num_gt))
    code = np.sort((group * len(score) + rank) * 2 + true)
    true, code = code % 2, code // 2
    group = code // len(score)
    score = score[code - group * len(score)]
    # Predictions of at least a score: all of the group less those before the score.
    end = np.cumsum(np.bincount(group, minlength=len(num_gt)))
    starts = np.ones(len(group), dtype=bool)
    starts[1:] = (group[1:] != group[:-1]) | (score[1:] != score[:-1])
    level = np.flatnonzero(starts)
    owner = group[level]
    matches = np.append(0, np.cumsum(true))
    hits = matches[end[owner]] - matches[level]
    precision = hits / (end[owner] - level)
    recall = hits / np.maximum(num_gt[owner], 1)
    first = np.append(True, owner[1:] != owner[:-1])
    last = np.append(first[1:], True)
    before = np.where(first, recall, np.append(0, recall[:-1]))
    after = np.where(last, 0, np.append(recall[1:], 0))
    steps = precision * (before - after) / 2
    steps[last] += recall[last] / 2  # the point (0, 1)
    return np.bincount(owner, steps, len(num_gt)) * (num_gt > 0)


def _labels(scene: Mapping, key: str) -> np.ndarray:
    return np.asarray(scene[key]).reshape(-1)


def _counted(num_classes: int, ignore_classes: Sequence[int]) -> np.ndarray:
    """Whether each class counts."""
    counted = np.ones(num_classes, dtype=bool)
    counted[[c for c in ignore_classes if 0 <= c < num_classes]] = False
    return counted


def _concatenate(overlaps: Sequence[SceneOverlaps]) -> SceneOverlaps:
    """All scenes as one, indices moved on."""
    if not overlaps:
        none = np.zeros(0, dtype=np.int64)
        return SceneOverlaps(
            none, none, none, none, none.astype(float), none, none, none, none
        )
    if len(overlaps) == 1:
        return overlaps[0]
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
