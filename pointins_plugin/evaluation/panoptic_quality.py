"""Panoptic quality by the SemanticKITTI procedure: NumPy in, numbers out.

The procedure (semantic-kitti-api, `PanopticEval`): in each class, a predicted segment
and a true one that overlap by more than half of their union are a match; what is left
over is an error unless it is smaller than `min_points`. Points whose true class is
ignored do not exist.

Points are visited a few times, without sorting; everything after that works on the
few (true segment, predicted segment) overlaps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import UserError

_EPS = 1e-15


class PanopticQuality:
    """Panoptic quality of scans that come one after another.

    Args:
        num_classes: Classes are 0 ... num_classes - 1. A true label outside them (-1,
            say) is void like an ignored class; a predicted one is a miss.
        ignore: Classes that are void: points that truly are of them do not count.
        min_points: Unmatched segments of fewer points are no errors. The benchmarks'
            values are 50 (SemanticKITTI) and 15 (nuScenes).
        things: Classes whose instances are counted one by one, for the split into
            things and stuff and for PQ dagger; None where there is no such split.

    Source: Kirillov et al., Panoptic Segmentation, CVPR 2019, eq. 1; PQ dagger:
    Porzi et al., Seamless Scene Segmentation, CVPR 2019.
    """

    def __init__(
        self,
        num_classes: int,
        ignore: Sequence[int] = (),
        min_points: int = 50,
        things: Sequence[int] | None = None,
    ):
        self.num_classes = num_classes
        self.ignore = np.array(
            sorted(set(_classes(ignore, num_classes, "ignore"))), int
        )
        self.min_points = min_points
        self.things = None
        if things is not None:
            known = sorted(set(_classes(things, num_classes, "things")))
            self.things = np.array(known, int)
        self.reset()

    def reset(self) -> None:
        """Forget all scans."""
        self.true_positive = np.zeros(self.num_classes, np.int64)
        self.false_positive = np.zeros(self.num_classes, np.int64)
        self.false_negative = np.zeros(self.num_classes, np.int64)
        self.iou_sum = np.zeros(self.num_classes)
        # rows: predicted class, the last for none; columns: true class
        self.confusion = np.zeros((self.num_classes + 1, self.num_classes), np.int64)

    def update(
        self,
        pred_segment: np.ndarray,
        pred_instance: np.ndarray,
        gt_segment: np.ndarray,
        gt_instance: np.ndarray,
    ) -> None:
        """Count a scan.

        Args:
            pred_segment, gt_segment: (N,) classes.
            pred_instance, gt_instance: (N,) instance ids, distinct within a class.
                Points of a negative id (-1) belong to no segment, except those of a
                stuff class (one that is not in `things`): they are one segment.

        Raises:
            UserError: The arrays are of different lengths or hold no integers.
        """
        arrays = {
            "pred_segment": pred_segment,
            "pred_instance": pred_instance,
            "gt_segment": gt_segment,
            "gt_instance": gt_instance,
        }
        values = [_labels(name, array) for name, array in arrays.items()]
        if len({len(value) for value in values}) > 1:
            lengths = ", ".join(
                f"{name} {len(value)}"
                for name, value in zip(arrays, values, strict=True)
            )
            raise UserError(
                f"panoptic quality: arrays of different lengths ({lengths}); give one "
                "row a point in each"
            )
        pred_class, pred_id, gt_class, gt_id = values
        if not len(gt_class):
            return
        pred_class = self._place(pred_class, ())
        gt_class = self._place(gt_class, self.ignore)
        gt = _Segments(gt_class, self._ids(gt_class, gt_id))
        pred = _Segments(pred_class, self._ids(pred_class, pred_id))
        pair_gt, pair_pred, shared = _overlaps(gt, pred)
        # dropping the pairs of void costs less than dropping its points
        valid = gt.classes[pair_gt] < self.num_classes
        pair_gt, pair_pred, shared = pair_gt[valid], pair_pred[valid], shared[valid]
        pred.sizes = np.bincount(pair_pred, shared, len(pred.sizes)).astype(np.int64)
        np.add.at(
            self.confusion, (pred.classes[pair_pred], gt.classes[pair_gt]), shared
        )
        same = gt.classes[pair_gt] == pred.classes[pair_pred]
        same &= gt.real[pair_gt] & pred.real[pair_pred]
        pair_gt, pair_pred, shared = pair_gt[same], pair_pred[same], shared[same]
        union = gt.sizes[pair_gt] + pred.sizes[pair_pred] - shared
        iou = shared / union
        match = iou > 0.5
        pair_gt, pair_pred, iou = pair_gt[match], pair_pred[match], iou[match]
        matched = gt.classes[pair_gt]
        size = self.num_classes
        self.true_positive += np.bincount(matched, minlength=size)
        self.iou_sum += np.bincount(matched, iou, minlength=size)
        self.false_negative += self._unmatched(gt, pair_gt)
        self.false_positive += self._unmatched(pred, pair_pred)

    def merge(self, other: PanopticQuality) -> None:
        """Add what another one counted, of other scans or on another rank.

        Raises:
            UserError: It counts by other rules.
        """
        if self._rules() != other._rules():
            raise UserError(
                "panoptic quality: only results of the same classes, ignore, "
                "min_points and things can be merged"
            )
        for name, value in other.state().items():
            getattr(self, name)[...] += value

    def state(self) -> dict[str, np.ndarray]:
        """Return the counts: the sums of several ranks' are those of all scans."""
        names = ("true_positive", "false_positive", "false_negative", "iou_sum")
        return {name: getattr(self, name) for name in (*names, "confusion")}

    def compute(self) -> dict:
        """Return the scores of all scans counted so far.

        Returns:
            `pq`, `sq`, `rq`, `miou`: means over the classes not ignored (a class that
            never occurs counts as 0, as in the procedure); `per_class` (4, C) with
            rows PQ, SQ, RQ, IoU; with `things` also `pq_dagger` (stuff by its IoU) and
            `pq_things`, `sq_things`, `rq_things`, `pq_stuff`, `sq_stuff`, `rq_stuff`.
        """
        tp = self.true_positive.astype(float)
        errors = 0.5 * self.false_positive + 0.5 * self.false_negative
        sq = self.iou_sum / np.maximum(tp, _EPS)
        rq = tp / np.maximum(tp + errors, _EPS)
        pq = sq * rq
        hits = np.diagonal(self.confusion).astype(float)
        union = self.confusion.sum(0) + self.confusion[:-1].sum(1) - hits
        iou = hits / np.maximum(union, _EPS)
        kept = np.setdiff1d(np.arange(self.num_classes), self.ignore)
        result: dict = {
            "pq": _mean(pq, kept),
            "sq": _mean(sq, kept),
            "rq": _mean(rq, kept),
            "miou": _mean(iou, kept),
        }
        if self.things is not None:
            is_thing = np.zeros(self.num_classes, bool)
            is_thing[self.things] = True
            result["pq_dagger"] = _mean(np.where(is_thing, pq, iou), kept)
            for split, chosen in (
                ("things", kept[is_thing[kept]]),
                ("stuff", kept[~is_thing[kept]]),
            ):
                for name, value in (("pq", pq), ("sq", sq), ("rq", rq)):
                    result[f"{name}_{split}"] = _mean(value, chosen)
        result["per_class"] = np.stack([pq, sq, rq, iou])
        return result

    def _place(self, classes: np.ndarray, void: Sequence[int]) -> np.ndarray:
        """Return classes, those that are void or unknown as ``num_classes``."""
        none = self.num_classes
        table = np.arange(none + 1)
        table[list(void)] = none
        if classes.min() < 0 or classes.max() >= none:
            classes = np.where((classes < 0) | (classes >= none), none, classes)
        elif not len(void):
            return classes
        return table[classes]

    def _ids(self, classes: np.ndarray, ids: np.ndarray) -> np.ndarray:
        if self.things is None or not len(ids) or ids.min() >= 0:
            return ids
        is_thing = np.zeros(self.num_classes + 1, bool)
        is_thing[self.things] = True
        return np.where((ids < 0) & ~is_thing[classes], 0, ids)

    def _unmatched(self, segments: _Segments, matched: np.ndarray) -> np.ndarray:
        left = segments.real & (segments.sizes >= max(self.min_points, 1))
        left[matched] = False
        counts = np.bincount(segments.classes[left], minlength=self.num_classes + 1)
        counts = counts[: self.num_classes]
        counts[self.ignore] = 0
        return counts

    def _rules(self) -> tuple:
        things = None if self.things is None else tuple(self.things)
        return self.num_classes, tuple(self.ignore), self.min_points, things


class _Segments:
    """The (class, instance) pairs that occur.

    Attributes:
        index: (N,) segment of each point.
        classes, sizes, real: (S,) class, number of points, and whether it is a
            segment (points without an instance are not).
    """

    def __init__(self, classes: np.ndarray, ids: np.ndarray):
        ids, negative = _dense(ids)
        span = int(ids.max()) + 1
        self.index, codes, self.sizes = _count(classes * span + ids)
        self.classes = codes // span
        self.real = codes % span >= negative


def _dense(ids: np.ndarray) -> tuple[np.ndarray, int]:
    """Number ids anew in their order; returns them and how many were negative."""
    low, high = int(ids.min()), int(ids.max())
    if low >= 0 and high < 1024:
        return ids, 0
    if high - low > 16 * len(ids) + (1 << 16):
        values, ids = np.unique(ids, return_inverse=True)
        return ids, int((values < 0).sum())
    if low:
        ids = ids - low
    present = np.zeros(high - low + 1, bool)
    present[ids] = True
    place = np.cumsum(present) - 1
    return place[ids], int(present[: max(0, -low)].sum())


def _overlaps(gt: _Segments, pred: _Segments):
    """Return the pairs of segments that share points, and how many."""
    stride = len(pred.sizes)
    _, codes, shared = _count(gt.index * stride + pred.index, inverse=False)
    return codes // stride, codes % stride, shared


def _count(codes: np.ndarray, inverse: bool = True):
    """Return as np.unique does (inverse, values, counts), without sorting if it can."""
    if int(codes.max()) > 16 * len(codes) + (1 << 16):
        values, index, counts = np.unique(
            codes, return_inverse=True, return_counts=True
        )
        return index, values, counts
    table = np.bincount(codes)
    values = np.flatnonzero(table)
    if not inverse:
        return None, values, table[values]
    place = np.empty(len(table), np.int64)
    place[values] = np.arange(len(values))
    return place[codes], values, table[values]


def _labels(name: str, array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != 1 or not (array.dtype.kind in "iu" or array.size == 0):
        raise UserError(
            f"panoptic quality: {name} of shape {array.shape} and type {array.dtype}; "
            "give (N,) integers"
        )
    return array.astype(np.int64, copy=False)


def _classes(values: Sequence[int], num_classes: int, name: str) -> list[int]:
    values = [int(value) for value in values]
    wrong = [value for value in values if not 0 <= value < num_classes]
    if wrong:
        raise UserError(
            f"panoptic quality: {name} names class {wrong[0]}; classes are 0 to "
            f"{num_classes - 1}"
        )
    return values


def _mean(values: np.ndarray, chosen: np.ndarray) -> float:
    return float(values[chosen].mean()) if len(chosen) else float("nan")
