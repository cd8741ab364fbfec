"""Which classes a linear map reads off features: logistic regression, to its end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pointins_plugin.errors import UserError
from pointins_plugin.evaluation.ridge_probe import LinearMap

PENALTIES = tuple(10.0**power for power in range(-5, 0))
_FEWER = 4  # of so many points one is used in choosing the penalty


def _fit(
    unit: Tensor,
    label: Tensor,
    num_classes: int,
    penalty: float,
    rounds: int,
    start: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Minimise over weights (C, K) and intercepts (K,) of standardised features."""
    weight, bias = start or (
        unit.new_zeros(unit.shape[1], num_classes),
        unit.new_zeros(num_classes),
    )
    weight, bias = (part.clone().requires_grad_() for part in (weight, bias))
    solver = torch.optim.LBFGS(
        [weight, bias],
        max_iter=rounds,
        history_size=10,
        tolerance_grad=1e-6,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        solver.zero_grad()
        error = F.cross_entropy(torch.addmm(bias, unit, weight), label)
        total = error + penalty * weight.square().sum()
        total.backward()
        return total

    with torch.enable_grad():
        solver.step(loss)
    return weight.detach(), bias.detach()


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
    weight, bias = _fit(unit, label, num_classes, penalty, rounds)
    weight = (weight * scale[:, None]).double()
    bias = bias.double() - mean.double() @ weight
    return LinearMap(weight.cpu().numpy(), bias.cpu().numpy())


def choose_penalty(
    feature: Tensor,
    label: Tensor,
    scene: Tensor,
    num_classes: int,
    penalties: Sequence[float] = PENALTIES,
    rounds: int = 100,
) -> float:
    """Return the penalty with the least cross-entropy on every fifth scene.

    Fitted on the other scenes, on every fourth point; each from the solution of the
    next larger penalty. Of a single scene nothing can be left out: the middle one.

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
    rest = torch.nonzero(~out).flatten()[::_FEWER]
    if not len(rest):
        return float(np.median(penalties))
    mean, scale = _standard(feature[rest])
    unit, seen = ((feature[part] - mean) * scale for part in (rest, out))
    errors, solution = {}, None
    for penalty in sorted(penalties, reverse=True):
        solution = _fit(unit, label[rest], num_classes, penalty, rounds, solution)
        weight, bias = solution
        logits = torch.addmm(bias, seen, weight)
        errors[penalty] = float(F.cross_entropy(logits, label[out]))
    return min(errors, key=errors.__getitem__)
