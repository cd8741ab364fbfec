"""From the offset head of pre-training to the bias head of PointGroup."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from pointins_plugin.errors import UserError


@dataclass(frozen=True)
class OffsetWeights:
    """The two-layer perceptron of a pre-trained offset branch.

    Attributes:
        first, first_bias: (H, C') and (H,), to the hidden units (GELU).
        last, last_bias: (3, H) and (3,), to offsets in ``unit``.
        unit: metres.
    """

    first: Tensor
    first_bias: Tensor
    last: Tensor
    last_bias: Tensor
    unit: float

    @staticmethod
    def of(state: dict[str, Tensor], branch: str, path: str) -> "OffsetWeights":
        """Read the head of one branch from a checkpoint's weights.

        Raises:
            UserError: the checkpoint has none.
        """
        state = {key.removeprefix("module."): value for key, value in state.items()}
        prefix = f"{branch}.offset_head.mlp"
        names = [f"{prefix}.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")]
        table = state.get("offset_branch.prior.magnitude_prior")
        if table is None or any(name not in state for name in names):
            raise UserError(
                f"checkpoint {path} has no {branch}.offset_head: init_bias_head needs "
                "pre-training with an offset branch; set init_bias_head=False"
            )
        unit = float(table[len(table) // 2])
        return OffsetWeights(*(state[name].float() for name in names), unit)

    def feature_columns(self, channels: Sequence[int], found: int) -> int:
        """Return how many of the inputs are features; the others are positions.

        Args:
            channels: of the encoder's levels, finest first.
            found: channels of the features that the bias head sees.

        Raises:
            UserError: they are not the features the head was trained on.
        """
        inputs = self.first.shape[1]
        if inputs == found:
            return inputs
        for level in range(len(channels)):
            count = sum(channels[len(channels) - level - 1 :])
            if inputs in (count, count + 3 * level) and sum(channels) == found:
                return count
        raise UserError(
            f"init_bias_head: the offset head was trained on {inputs} inputs, the bias "
            f"head sees {found} channels, which do not end in them; use it where the "
            "heads see the encoder's features (-lin configs)"
        )


@torch.no_grad()
def init_bias_head(
    bias_head: nn.Sequential, weights: OffsetWeights, columns: int, feature: Tensor
) -> float:
    """Make a bias head predict what the pre-trained offset head predicts.

    The first layer takes over the pre-trained one (of coarser levels, which stand
    last among the features; its inputs for positions are left out, zero being their
    mean), the normalisation starts as the identity on the features given, and the
    last layer is fitted to the pre-trained offsets by least squares. Hidden units
    beyond the pre-trained ones stay random.

    Args:
        bias_head: ``Linear(C, C), BatchNorm1d, ReLU, Linear(C, 3)``.
        weights: the pre-trained head.
        columns: how many of its inputs are features.
        feature: (N, C) what the bias head sees on some batches.

    Returns:
        R^2 of the offsets on those features.

    Raises:
        UserError: the bias head has fewer hidden units, or there are no features.
    """
    linear, norm, _, last = bias_head
    hidden, channels = len(weights.first), linear.in_features
    if hidden > linear.out_features:
        raise UserError(
            f"init_bias_head: the offset head has {hidden} hidden units, the bias head "
            f"only {linear.out_features}"
        )
    if len(feature) < 2:
        raise UserError("init_bias_head: the training batches hold no points")
    feature = feature.float()
    weight = torch.zeros_like(linear.weight[:hidden])
    weight[:, channels - columns :] = weights.first[:, :columns].to(weight)
    linear.weight[:hidden] = weight
    linear.bias[:hidden] = weights.first_bias.to(linear.bias)
    unit = linear(feature)
    mean, variance = unit.mean(0), unit.var(0, unbiased=False)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.copy_(mean)
    target = F.linear(
        F.gelu(unit[:, :hidden]), weights.last.to(unit), weights.last_bias.to(unit)
    )
    target = weights.unit * target
    solution = _ridge(F.relu(unit), target)
    last.weight.copy_(solution[:-1].t())
    last.bias.copy_(solution[-1])
    error = (last(F.relu(unit)) - target).square().sum()
    spread = (target - target.mean(0)).square().sum()
    return float(1 - error / spread.clamp(min=1e-12))


def _ridge(inputs: Tensor, target: Tensor, strength: float = 1e-4) -> Tensor:
    """Return (C + 1, 3) weights and bias of a ridge regression, in float64."""
    ones = inputs.new_ones(len(inputs), 1)
    design = torch.cat([inputs, ones], dim=1).double()
    gram = design.t() @ design
    scale = strength * gram.diagonal().mean()
    gram.diagonal()[:-1].add_(scale)
    solution = torch.linalg.lstsq(gram, design.t() @ target.double()).solution
    return solution.to(target.dtype)
