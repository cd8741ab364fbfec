"""Which classes a linear map reads off features: logistic regression, to its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pointins_plugin.errors import UserError
from pointins_plugin.evaluation.ridge_probe import LinearMap
from pointins_plugin.evaluation.semantic import confusion_matrix, semantic_scores

PENALTIES = tuple(10.0 ** (power / 2) for power in range(-12, -1))
# About the mean of p (1 - p) over points and classes: the share of a feature's variance
# in the curvature of the cross-entropy.
_CURVATURE = 0.2


@dataclass(frozen=True)
class _Spectrum:
    """Principal axes (C, C) of standardised features, and their variances (C,)."""

    axes: Tensor
    variance: Tensor

    @classmethod
    def of(cls, unit: Tensor) -> _Spectrum:
        wide = unit.double()
        variance, axes = torch.linalg.eigh(wide.t() @ wide / len(wide))
        return cls(axes.to(unit), variance.clamp(min=0).to(unit))


def _fit(
    unit: Tensor,
    label: Tensor,
    num_classes: int,
    penalty: float,
    rounds: int,
    spectrum: _Spectrum,
    start: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Minimise over weights (C, K) and intercepts (K,) of standardised features.

    Features of a backbone are correlated, and L-BFGS would take thousands of rounds.
    It is therefore given weights of decorrelated features, each in units of its own
    curvature; the minimum is the same.
    """
    curvature = _CURVATURE * spectrum.variance + 2 * penalty
    # a feature that never changes has none where there is no penalty
    length = curvature.clamp(min=1e-9).rsqrt()
    to_weight = spectrum.axes * length
    inputs = unit @ to_weight
    if start is None:
        inner = unit.new_zeros(unit.shape[1], num_classes)
        bias = unit.new_zeros(num_classes)
    else:
        inner = spectrum.axes.t() @ start[0] / length[:, None]
        bias = start[1].clone()
    inner, bias = inner.requires_grad_(), bias.requires_grad_()
    solver = torch.optim.LBFGS(
        [inner, bias],
        max_iter=rounds,
        history_size=10,
        tolerance_grad=1e-6,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        solver.zero_grad()
        error = F.cross_entropy(torch.addmm(bias, inputs, inner), label)
        # The axes are orthonormal: lengths of weights are those of the inner ones.
        total = error + penalty * (inner * length[:, None]).square().sum()
        total.backward()
        return total

    with torch.enable_grad():
        solver.step(loss)
    return to_weight @ inner.detach(), bias.detach()


def _standard(feature: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and 1 / deviation of features, 0 for one that never changes."""
    deviation, mean = torch.std_mean(feature, dim=0, correction=0)
    varies = deviation > 1e-6 * mean.abs().clamp(min=1e-6)
    return mean, torch.where(varies, 1 / deviation, 0.0)


def fit_logistic(
    feature: Tensor,
    label: Tensor,
    num_classes: int,
    penalty: float,
    rounds: int = 200,
) -> LinearMap:
    """Return the multinomial logistic regression of standardised features.

    Minimises the mean cross-entropy ``+ penalty |w|^2`` with free intercepts, by
    L-BFGS; a convex problem, so that neither a learning rate nor a seed matters.

    Args:
        feature: (N, C) float.
        label: (N,) long, in [0, num_classes).
        num_classes: K; a class without a point gets the lowest scores.
        penalty: of the squared weights.
        rounds: of L-BFGS at most.

    Returns:
        The map to logits, (C, K) and (K,).

    Raises:
        UserError: there is no point.
    """
    if not len(feature):
        raise UserError("logistic probe: no training point has a class; check labels")
    mean, scale = _standard(feature)
    unit = (feature - mean) * scale
    spectrum = _Spectrum.of(unit)
    weight, bias = _fit(unit, label, num_classes, penalty, rounds, spectrum)
    weight = (weight * scale[:, None]).double()
    bias = bias.double() - mean.double() @ weight
    return LinearMap(weight.cpu().numpy(), bias.cpu().numpy())


def choose_penalty(
    feature: Tensor,
    label: Tensor,
    scene: Tensor,
    num_classes: int,
    penalties: Sequence[float] = PENALTIES,
    rounds: int = 50,
) -> float:
    """Return the penalty with the highest mean IoU on every fifth scene.

    Fitted on the other scenes; each from the solution of the next larger penalty. Of
    a single scene nothing can be left out: the middle one. The measure is the one that
    probes are compared by: cross-entropy is of frequent classes, and asks for ten to a
    hundred times the penalty that is best for rare ones.

    Args:
        feature: (N, C) float.
        label: (N,) long.
        scene: (N,) long, of every point.
        num_classes: K.
        penalties: to choose from.
        rounds: of L-BFGS for each.
    """
    names = torch.unique(scene)
    out = torch.isin(scene, names[::5])
    if bool(out.all()):
        return float(np.median(penalties))
    mean, scale = _standard(feature[~out])
    unit, seen = ((feature[part] - mean) * scale for part in (~out, out))
    truth = label[out].cpu().numpy()
    known, spectrum = label[~out], _Spectrum.of(unit)
    scores, solution = {}, None
    for penalty in sorted(penalties, reverse=True):
        solution = _fit(unit, known, num_classes, penalty, rounds, spectrum, solution)
        weight, bias = solution
        found = torch.addmm(bias, seen, weight).argmax(1).cpu().numpy()
        confusion = confusion_matrix(found, truth, num_classes)
        scores[penalty] = semantic_scores(confusion)["miou"]
    return max(scores, key=scores.__getitem__)
