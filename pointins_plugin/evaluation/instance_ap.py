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
_MOST_INDICES = 1 << 20  # of masks that are counted together
_CHUNK = 1 << 15
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
    gt_class, gt_size, code = _ground_truth(segment, instance, valid)
    masks = _checked_masks(scene["masks"], num_points, name)
    num_masks = masks.shape[0] if hasattr(masks, "shape") else len(masks)
    if not len(classes) == len(scores) == num_masks:
        raise UserError(
            f"instance AP, {name}: {num_masks} masks, {len(classes)} classes, "
            f"{len(scores)} scores; give one of each per prediction"
        )
    size, in_void, shared = _shares(masks, code, gt_class, classes)
    keep = _lookup(valid, classes) & (size >= max(min_region, 1))
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

    # All thresholds at once: each has its own copy of instances and predictions.
    level, pair = np.nonzero(iou > IOU_THRESHOLDS[:, None])
    num_levels, num_all_pred = len(IOU_THRESHOLDS), len(merged.pred_size)
    found = np.zeros((num_levels, num_all_pred), dtype=bool)
    found[level, merged.pair_pred[pair]] = True
    level, pair = level[~small[pair]], pair[~small[pair]]
    best, rival_level, rival_pair, rival_score = _match(
        level, merged.pair_gt[pair], merged.pair_pred[pair], pair, merged
    )
    rival_class = merged.gt_class[merged.pair_gt[rival_pair]]
    match_level, matched = np.nonzero(~np.isnan(best))
    lost_level, lost = np.nonzero(~found & (ignored_share <= IOU_THRESHOLDS[:, None]))
    group = [
        match_level * num_classes + merged.gt_class[matched],
        rival_level * num_classes + rival_class,
        lost_level * num_classes + merged.pred_class[lost],
    ]
    score = [best[match_level, matched], rival_score, merged.pred_score[lost]]
    true = np.zeros(sum(map(len, score)), dtype=bool)
    true[: len(matched)] = True
    areas = _areas(
        np.concatenate(group),
        np.concatenate(score),
        true,
        np.tile(num_gt, num_levels),
    )
    # Without a prediction (of the size that counts) the area is 0, as it should be.
    table = areas.reshape(num_levels, num_classes).T[class_ids]
    table[num_gt[class_ids] == 0] = np.nan
    table[(num_gt[class_ids] > 0) & (num_pred[class_ids] == 0)] = 0

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


def _match(level, pair_gt, pair_pred, pair, merged):
    """Greedy matching of the pairs over each threshold.

    Args:
        level, pair_gt, pair_pred, pair: (H,) threshold, instance, prediction and
            number of every pair that counts, by threshold and in order of instances.

    Returns the score of each instance's match ((T, G), nan = unmatched), and of the
    surplus predictions on instances already matched their threshold, pair and score.
    A prediction that was the first on one instance is spent; a surplus one is not.
    """
    num_gt, num_pred = len(merged.gt_size), len(merged.pred_size)
    best = np.full(len(IOU_THRESHOLDS) * num_gt, np.nan)
    gt, pred = level * num_gt + pair_gt, level * num_pred + pair_pred
    score = merged.pred_score[pair_pred]
    # Pairs without a rival on either side match; only the others take turns.
    per_gt = np.bincount(gt, minlength=len(best))
    per_pred = np.bincount(pred, minlength=len(IOU_THRESHOLDS) * num_pred)
    alone = (per_gt[gt] == 1) & (per_pred[pred] == 1)
    best[gt[alone]] = score[alone]
    rest = np.flatnonzero(~alone)
    turns: dict[int, float] = {}
    spent, rivals, rival_scores = set(), [], []
    for row, g, p, s in zip(
        rest.tolist(),
        gt[rest].tolist(),
        pred[rest].tolist(),
        score[rest].tolist(),
        strict=True,
    ):
        if p in spent:
            continue
        if g not in turns:
            turns[g] = s
            spent.add(p)
            continue
        rivals.append(row)
        rival_scores.append(min(turns[g], s))
        turns[g] = max(turns[g], s)
    if turns:
        best[list(turns)] = list(turns.values())
    rivals = np.array(rivals, dtype=np.int64)
    return (
        best.reshape(len(IOU_THRESHOLDS), num_gt),
        level[rivals],
        pair[rivals],
        np.array(rival_scores, dtype=np.float64),
    )


def _areas(
    group: np.ndarray, score: np.ndarray, true: np.ndarray, num_gt: np.ndarray
) -> np.ndarray:
    """Areas under precision over recall of groups of scored predictions.

    Curves have one point a distinct score, plus (0, 1); recall steps are central
    differences, as in the reference procedure.

    Args:
        group, score, true: (E,) of each prediction; `true` where it is a match.
        num_gt: (Q,) instances of each group.

    Returns:
        (Q,) areas, 0 of groups without predictions or instances.
    """
    areas = np.zeros(len(num_gt))
    if len(group) == 0:
        return areas
    order = np.lexsort((score, group))
    group, score, true = group[order], score[order], true[order]
    # Predictions of at least a score: all of the group less those before the score.
    end = np.searchsorted(group, np.arange(len(num_gt)), side="right")
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


def _valid_classes(num_classes: int, ignore_classes: Sequence[int]) -> np.ndarray:
    return np.setdiff1d(
        np.arange(num_classes), np.asarray(list(ignore_classes), dtype=np.int64)
    )


def _lookup(table: np.ndarray, index: np.ndarray) -> np.ndarray:
    """table[index], False outside the table (an appended False catches both ends)."""
    padded = np.append(table, False)
    outside = (index < 0) | (index >= len(table))
    return padded[np.where(outside, len(table), index).astype(np.int64)]


def _ground_truth(segment, instance, valid):
    """Class and size per counted instance in order of id, and a code per point.

    The class of an instance is that of its first point. The code (N,) is twice the
    point's instance (G: no counted one), plus one on void.
    """
    if len(segment) == 0:
        empty = np.zeros(0, dtype=np.int64)
        return empty, empty, empty
    # Everything is said by how often an id meets a class.
    joint, ids, kinds = _joint(instance, segment)
    meetings = _histogram(joint, len(ids) * len(kinds))
    meetings = meetings.reshape(len(ids), len(kinds))
    met = meetings > 0
    classes = kinds[met.argmax(1)]
    mixed = (met.sum(1) > 1) & (ids != -1)
    if mixed.any():
        points = np.flatnonzero(np.repeat(mixed, len(kinds))[joint])[::-1]
        # Written backwards, so that the first point of each instance is what stays.
        classes[joint[points] // len(kinds)] = segment[points]
    counted = (ids != -1) & met.any(1) & _lookup(valid, classes)
    rank = np.where(counted, np.cumsum(counted) - 1, np.count_nonzero(counted))
    code = (2 * rank[:, None] + ~_lookup(valid, kinds)).reshape(-1)
    if code.max() < 1 << 16:
        code = code.astype(np.uint16)  # half of the work is waiting for memory
    return classes[counted], meetings.sum(1)[counted], code.take(joint)


def _joint(first: np.ndarray, second: np.ndarray):
    """Pairs of values as numbers (N,) `row * len(columns) + column`, rows, columns.

    Rows and columns are sorted tables of the values, which may hold absent ones.
    """
    first, rows = _few(first)
    second, columns = _few(second)
    # In place: for the time of it, new memory costs as much as the arithmetic.
    joint = first * len(columns)
    joint += second
    joint -= rows[0] * len(columns) + columns[0]
    return joint, rows, columns


def _few(values: np.ndarray):
    """The values (int64) and a table of consecutive ones that holds them.

    Values far apart are replaced by their places in the table, less its first.
    """
    values = values.astype(np.int64, copy=False)
    low, high = int(values.min()), int(values.max())
    if high - low < 2048:
        return values, np.arange(low, high + 1)
    table, index = np.unique(values, return_inverse=True)
    return index.reshape(-1) + table[0], table


def _checked_masks(masks, num_points, name):
    """Masks as a canonical CSR matrix, a (K, N) array or K rising index arrays."""
    if sparse.issparse(masks):
        if masks.shape[1] != num_points:
            raise _width_error(name, masks.shape[1], num_points)
        return _canonical(masks)
    if isinstance(masks, list | tuple) and not _is_dense(masks, num_points):
        parts = [_distinct(np.asarray(points).reshape(-1)) for points in masks]
        for points in parts:
            if len(points) and not 0 <= points[0] <= points[-1] < num_points:
                raise _width_error(name, int(points[-1]) + 1, num_points)
        return parts
    masks = np.asarray(masks)
    if masks.size == 0:
        return np.zeros((len(masks), num_points), dtype=bool)
    if masks.ndim != 2 or masks.shape[1] != num_points:
        raise _width_error(name, masks.shape[-1], num_points)
    return masks


def _shares(masks, code, gt_class, classes):
    """Points of each mask (K,), those on void (K,), and those on instances (G, K).

    The last are counted at least for the instances of the mask's own class.
    """
    if isinstance(masks, np.ndarray):
        found = _shares_of_bits(masks, code, gt_class, classes)
        if found is not None:
            return found
        # Truth values first: looking for what is not zero is slow on other types.
        masks = (np.flatnonzero(m if m.dtype == bool else m != 0) for m in masks)
    width = 2 * (len(gt_class) + 1)
    if sparse.issparse(masks):
        counts = _count(masks.indices, masks.indptr, code, width)
    else:
        counts = _count_parts(masks, code, width)
    counts = counts.reshape(len(counts), len(gt_class) + 1, 2)
    return (
        counts.sum(axis=(1, 2)),
        counts[:, :, 1].sum(axis=1),
        counts[:, :-1].sum(axis=2).T,
    )


def _shares_of_bits(masks, code, gt_class, classes):
    """The same from dense masks as bits, None where points are the faster way.

    A pass over bits for every pair of one class beats a pass over the points of masks
    unless there are many pairs, or the points lie in runs, which are found at once.
    """
    if not hasattr(np, "bitwise_count") or not len(masks):  # NumPy 1
        return None
    changes = np.count_nonzero(masks[0, 1:] != masks[0, :-1])
    if changes < 0.01 * len(code):
        return None
    words = _packed(masks)
    size = np.bitwise_count(words).sum(axis=1, dtype=np.int64)
    pairs = np.count_nonzero(gt_class[:, None] == classes[None, :])
    if pairs * words.shape[1] > 4 * size.sum():
        return None
    void = _packed((code & 1).astype(bool))
    in_void = np.bitwise_count(words & void).sum(axis=1, dtype=np.int64)
    shared = np.zeros((len(gt_class), len(masks)), dtype=np.int64)
    rank = code >> 1
    for gt, kind in enumerate(gt_class):
        rows = np.flatnonzero(classes == kind)
        if len(rows):
            both = words[rows] & _packed(rank == gt)
            shared[gt, rows] = np.bitwise_count(both).sum(axis=1, dtype=np.int64)
    return size, in_void, shared


def _packed(values: np.ndarray) -> np.ndarray:
    """Truth values along the last axis as bits of uint64 words."""
    values = values if values.dtype == bool else values != 0
    packed = np.packbits(values, axis=-1)
    words = np.zeros((*packed.shape[:-1], -(-packed.shape[-1] // 8)), np.uint64)
    words.view(np.uint8)[..., : packed.shape[-1]] = packed
    return words


def _canonical(masks):
    """The masks by rows, with each point named once and no stored zeros."""
    if masks.format != "csr":
        masks = masks.tocsr()
    if not masks.has_canonical_format:
        masks = masks.copy()
        masks.sum_duplicates()
    if not masks.data.all():
        masks = masks.copy()
        masks.eliminate_zeros()
    return masks


def _distinct(points: np.ndarray) -> np.ndarray:
    """Point indices in rising order, each once."""
    if len(points) < 2 or (points[1:] > points[:-1]).all():
        return points.astype(np.int64, copy=False)
    return np.unique(points).astype(np.int64, copy=False)


def _is_dense(masks, num_points: int) -> bool:
    """A list of boolean rows is a dense matrix, a list of indices is not."""
    return all(np.asarray(mask).dtype == bool for mask in masks) and all(
        len(mask) == num_points for mask in masks
    )


def _histogram(values: np.ndarray, size: int) -> np.ndarray:
    """np.bincount of values below `size`, whose long runs of one value are slow."""
    starts = _few_runs(values)
    if starts is None:
        return np.bincount(values, minlength=size)
    lengths = np.diff(starts, append=len(values))
    return np.bincount(values[starts], lengths, size).astype(np.int64)


def _few_runs(values: np.ndarray, edges=0) -> np.ndarray | None:
    """Where runs of one value start, None if most are short; they end at edges."""
    change = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=change[1:])
    change[edges] = True
    if np.count_nonzero(change) > len(values) // 4:
        return None
    return np.flatnonzero(change)


def _count(points, ends, code, width):
    """Points per (mask, code); mask k owns points[ends[k]:ends[k + 1]]."""
    num = len(ends) - 1
    codes = np.empty(len(points), code.dtype)
    for start in range(0, len(points), _CHUNK):  # what is cast to int64 stays in cache
        part = slice(start, start + _CHUNK)
        np.take(code, points[part], out=codes[part], mode="clip")
    edges = ends[:-1][ends[:-1] < len(codes)]
    starts = _few_runs(codes, edges)
    if starts is None:
        rows = np.split(codes.astype(np.intp), ends[1:-1])[:num]
        counts = [np.bincount(row, minlength=width) for row in rows]
        return np.array(counts, dtype=np.int64).reshape(num, width)
    # Points of an object are neighbours in most scans: count run by run.
    rows = np.searchsorted(ends, starts, side="right") - 1
    lengths = np.diff(starts, append=len(codes))
    flat = np.bincount(rows * width + codes[starts], lengths, num * width)
    return flat.astype(np.int64).reshape(num, width)


def _count_parts(parts, code, width):
    """Points per (part, code) of arrays of point indices, some at a time."""
    counts, batch, size = [np.zeros((0, width), dtype=np.int64)], [], 0

    def flush():
        ends = np.cumsum([0, *map(len, batch)])
        counts.append(_count(np.concatenate(batch), ends, code, width))
        batch.clear()

    for part in parts:
        batch.append(part)
        size += len(part)
        if size > _MOST_INDICES:
            flush()
            size = 0
    if batch:
        flush()
    return np.concatenate(counts)


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
