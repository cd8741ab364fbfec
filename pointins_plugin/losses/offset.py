"""Distance between predicted and target offsets."""

import torch
import torch.nn as nn
from torch import Tensor

from pointins_plugin.host import LOSSES

# Of a unit: shorter vectors have no direction that could be told.
_NO_DIRECTION = 1e-6


def offset_distance(prediction: Tensor, target: Tensor, unit: float = 1.0) -> Tensor:
    """Return ``|o - o*|_1 / unit + 1 - cos(o, o*)`` for every point.

    The length term is measured in ``unit`` so that neither term drowns the other on
    a table top (offsets of centimetres) or in a street (metres). Where either vector
    is zero, or shorter than a millionth of ``unit``, its direction is undefined and the
    cosine term, whose gradient grows as the length shrinks, is left out.

    Args:
        prediction: (N, 3) predicted offsets.
        target: (N, 3) target offsets in the same frame and unit of length.
        unit: length that counts as one, e.g. the median of the magnitude prior.

    Returns:
        (N,) float32 distances, differentiable in ``prediction``.

    Source: PointINS, offset distillation; the unit is ours (the paper's is 1 m).
    """
    with torch.autocast(prediction.device.type, enabled=False):
        prediction = prediction.float() if prediction.dtype.itemsize < 4 else prediction
        target = target.to(prediction.dtype)
        length = (prediction - target).abs().sum(dim=-1) / unit
        inner = (prediction * target).sum(dim=-1)
        norms, goals = _norm(prediction), _norm(target)
        defined = (norms > _NO_DIRECTION * unit) & (goals > _NO_DIRECTION * unit)
        norms = norms * goals
        cosine = inner / torch.where(defined, norms, torch.ones_like(norms))
        return length + torch.where(defined, 1 - cosine, torch.zeros_like(cosine))


def mean_per_cloud(
    values: Tensor,
    batch: Tensor | None = None,
    num_clouds: int | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Average values within each cloud and then over clouds.

    A cloud without a value counts as zero, so that ranks holding the same number of
    clouds average to the loss of the concatenated batch whatever they hold.

    Args:
        values: (N,).
        batch: (N,) cloud of every value; None means one cloud.
        num_clouds: B, required with ``batch``.
        mask: (N,) bool, values that take part; None means all.

    Returns:
        A scalar; zero with a gradient of zero when nothing takes part.
    """
    if mask is not None:
        values = torch.where(mask, values, torch.zeros_like(values))
    weight = torch.ones_like(values) if mask is None else mask.to(values.dtype)
    if batch is None:
        return values.sum() / weight.sum().clamp(min=1)
    sums = values.new_zeros(num_clouds).index_add(0, batch, values)
    counts = values.new_zeros(num_clouds).index_add(0, batch, weight)
    return (sums / counts.clamp(min=1)).mean()


def _norm(vector: Tensor) -> Tensor:
    """Euclidean norm whose gradient at zero is zero instead of NaN."""
    square = vector.square().sum(dim=-1)
    positive = square > 0
    safe = torch.where(positive, square, torch.ones_like(square))
    return torch.where(positive, safe.sqrt(), torch.zeros_like(square))


@LOSSES.register_module()
class OffsetLoss(nn.Module):
    """Mean offset distance: L1 in units of a typical length, plus one minus cosine.

    Args:
        unit: length that counts as one, metres. Inside ``PointINS`` None stands for
            the median of the magnitude prior; alone it stands for one metre.
        loss_weight: factor of the result.

    Shapes:
        prediction, target: (N, 3); mask: (N,) bool; batch: (N,) with ``num_clouds``.
        Returns a scalar, zero (with a zero gradient) where nothing is selected.

    Source: PointINS, offset distillation. The mean is taken per cloud first.
    """

    def __init__(self, unit: float | None = None, loss_weight: float = 1.0):
        super().__init__()
        if unit is not None and not unit > 0:
            raise ValueError(f"OffsetLoss needs unit > 0 metres, found {unit}")
        self.unit = unit
        self.loss_weight = loss_weight

    def forward(
        self,
        prediction: Tensor,
        target: Tensor,
        mask: Tensor | None = None,
        batch: Tensor | None = None,
        num_clouds: int | None = None,
        unit: float | None = None,
    ) -> Tensor:
        unit = self.unit or unit or 1.0
        distance = offset_distance(prediction, target, unit)
        return self.loss_weight * mean_per_cloud(distance, batch, num_clouds, mask)
