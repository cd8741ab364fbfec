"""How much of a vector field a linear map reads off features: ridge, in closed form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pointins_plugin.errors import UserError

PENALTIES = tuple(10.0**power for power in range(-6, 3))


@dataclass
class Moments:
    """Sums over points that a ridge regression needs; sums of parts add up.

    Attributes:
        count: points.
        x, y: (C,) and (D,) sums of features and targets.
        xx, xy: (C, C) and (C, D) sums of products.
        yy: sum of squares of the targets.
    """

    count: int
    x: np.ndarray
    y: np.ndarray
    xx: np.ndarray
    xy: np.ndarray
    yy: float

    @classmethod
    def of(cls, feature: np.ndarray, target: np.ndarray) -> Moments:
        """Sum over points: features (N, C) and targets (N, D)."""
        x, y = np.asarray(feature, np.float64), np.asarray(target, np.float64)
        return cls(len(x), x.sum(0), y.sum(0), x.T @ x, x.T @ y, float((y * y).sum()))

    def __add__(self, other: Moments) -> Moments:
        return Moments(*(a + b for a, b in zip(self._all, other._all, strict=True)))

    def __sub__(self, other: Moments) -> Moments:
        return Moments(*(a - b for a, b in zip(self._all, other._all, strict=True)))

    @property
    def _all(self):
        return self.count, self.x, self.y, self.xx, self.xy, self.yy


@dataclass(frozen=True)
class LinearMap:
    """``feature @ weight + bias``: weight (C, D), bias (D,)."""

    weight: np.ndarray
    bias: np.ndarray

    def __call__(self, feature: np.ndarray) -> np.ndarray:
        """Return (N, D) for features (N, C)."""
        return np.asarray(feature, np.float64) @ self.weight + self.bias

    def error(self, moments: Moments) -> float:
        """Return the sum of squared errors over the points behind some sums."""
        w, b, m = self.weight, self.bias, moments
        squares = (w * (m.xx @ w)).sum() + 2 * (m.x @ w) @ b + m.count * b @ b
        return float(m.yy - 2 * ((w * m.xy).sum() + m.y @ b) + squares)


def fit_ridge(moments: Moments, penalty: float) -> LinearMap:
    """Return the ridge regression of standardised features with a free intercept.

    Minimises ``|y - z w - b|^2 / N + penalty |w|^2``, where z are the features less
    their mean, over their standard deviation; one that never changes has no weight.
    """
    count = moments.count
    mean_x, mean_y = moments.x / count, moments.y / count
    covariance = moments.xx / count - np.outer(mean_x, mean_x)
    variance = np.clip(np.diag(covariance), 0, None)
    varies = variance > 1e-12 * np.maximum(mean_x**2, 1e-12)
    scale = np.where(varies, 1 / np.sqrt(np.where(varies, variance, 1)), 0)
    gram = covariance * np.outer(scale, scale)
    cross = (moments.xy / count - np.outer(mean_x, mean_y)) * scale[:, None]
    standard = np.linalg.solve(gram + penalty * np.eye(len(gram)), cross)
    weight = standard * scale[:, None]
    return LinearMap(weight, mean_y - mean_x @ weight)


def choose_penalty(
    scenes: Sequence[Moments], penalties: Sequence[float] = PENALTIES, folds: int = 5
) -> float:
    """Return the penalty with the least error on scenes left out in turn."""
    folds = min(folds, len(scenes))
    if folds < 2:
        return float(np.median(penalties))
    parts = [_total(scenes[start::folds]) for start in range(folds)]
    total = _total(parts)
    errors = [
        sum(fit_ridge(total - part, penalty).error(part) for part in parts)
        for penalty in penalties
    ]
    return penalties[int(np.argmin(errors))]


def probe_offsets(
    scenes: Iterable[tuple[np.ndarray, np.ndarray]],
    penalties: Sequence[float] = PENALTIES,
    folds: int = 5,
) -> tuple[LinearMap, float]:
    """Fit offsets to frozen features by ridge regression.

    Scenes are read one at a time, and only their sums are kept.

    Args:
        scenes: features (N, C) and true offsets (N, 3), metres, of points that have an
            instance.
        penalties: of the squared weights of standardised features, over the mean
            squared error; chosen by leaving scenes out.
        folds: parts into which the scenes are split for that.

    Returns:
        The map, and its penalty.

    Raises:
        UserError: no scene has a point.
    """
    moments = [Moments.of(x, y) for x, y in scenes if len(x)]
    if not moments:
        raise UserError(
            "ridge probe: no training scene has a point with an instance; check the "
            "labels and the classes without instances"
        )
    penalty = choose_penalty(moments, penalties, folds)
    return fit_ridge(_total(moments), penalty), float(penalty)


def _total(parts: Sequence[Moments]) -> Moments:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
