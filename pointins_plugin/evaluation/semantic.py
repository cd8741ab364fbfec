"""Semantic segmentation scores: NumPy in, numbers out."""

from typing import Any

import numpy as np

from ..errors import UserError


def confusion_matrix(
    prediction: np.ndarray,
    target: np.ndarray,
    num_classes: int,
    ignore_index: int = -1,
) -> np.ndarray:
    """Count points by true and predicted class.

    Args:
        prediction, target: (N,) labels.
        num_classes: classes are 0 ... num_classes - 1.
        ignore_index: true label of points that do not count.

    Returns:
        (C, C + 1) int64, rows true, columns predicted; the last column holds
        predictions that are no class. Matrices of scenes add up.

    Raises:
        UserError: the two differ in length, or a true label is no class.
    """
    prediction, target = np.ravel(prediction), np.ravel(target)
    if len(prediction) != len(target):
        raise UserError(
            f"semantic scores: {len(prediction)} predictions for {len(target)} labels; "
            "give one a point"
        )
    valid = target != ignore_index
    prediction, target = prediction[valid].astype(np.int64), target[valid]
    target = target.astype(np.int64)
    if len(target) and not 0 <= target.min() <= target.max() < num_classes:
        odd = target.min() if target.min() < 0 else target.max()
        raise UserError(
            f"semantic scores: label {odd} is not among {num_classes} classes and is "
            f"not ignore_index={ignore_index}; check data.num_classes"
        )
    width = num_classes + 1
    known = (prediction >= 0) & (prediction < num_classes)
    code = target * width + np.where(known, prediction, num_classes)
    counts = np.bincount(code, minlength=num_classes * width)
    return counts.reshape(num_classes, width)


def semantic_scores(confusion: np.ndarray, absent: str = "zero") -> dict[str, Any]:
    """Return mean IoU, mean accuracy and overall accuracy of a confusion matrix.

    Args:
        confusion: (C, C + 1) from ``confusion_matrix``, scenes added up.
        absent: ``"zero"`` counts a class that is neither true nor predicted anywhere
            as 0 in the means, as Pointcept does; ``"skip"`` leaves it out.

    Returns:
        ``miou``, ``macc``, ``allacc``; ``iou`` and ``acc`` (C,), of an absent class 0
        or, with ``"skip"``, nan. A class that is predicted but never true has IoU 0
        and, with ``"skip"``, no accuracy.

    Raises:
        ValueError: another ``absent``.
    """
    if absent not in ("zero", "skip"):
        raise ValueError(f"absent must be 'zero' or 'skip', found {absent!r}")
    confusion = np.asarray(confusion)
    num = len(confusion)
    hit = np.diagonal(confusion)[:num].astype(float)
    target = confusion.sum(1)
    union = target + confusion[:, :num].sum(0) - hit
    missing = 0.0 if absent == "zero" else np.nan
    iou, acc = (_divide(hit, total, missing) for total in (union, target))
    return {
        "miou": _mean(iou),
        "macc": _mean(acc),
        "allacc": float(hit.sum() / target.sum()) if target.sum() else float("nan"),
        "iou": iou,
        "acc": acc,
    }


def _divide(part: np.ndarray, total: np.ndarray, missing: float) -> np.ndarray:
    return np.where(total > 0, part / np.maximum(total, 1), missing)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
