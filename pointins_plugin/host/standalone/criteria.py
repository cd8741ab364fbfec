"""Losses of semantic segmentation, with Pointcept's names and parameters."""

from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from pointins_plugin.errors import UserError

from .registry import LOSSES

MODES = ("binary", "multiclass", "multilabel")


def _labelled(
    logits: Tensor, target: Tensor, ignore_index: int | None
) -> tuple[Tensor, Tensor]:
    """Return (M, C) float32 logits and (M,) labels of the points that count."""
    logits = torch.movedim(logits, 1, -1).reshape(-1, logits.shape[1]).float()
    target = target.reshape(-1).long()
    if ignore_index is None:
        return logits, target
    valid = target != ignore_index
    return logits[valid], target[valid]


def _full_precision(values: Tensor):
    return torch.autocast(values.device.type, enabled=False)


def lovasz_gradient(foreground: Tensor) -> Tensor:
    """Return the gradient of the Lovasz extension of the Jaccard loss.

    Args:
        foreground: (..., N) 0 or 1, in order of falling error along the last axis.

    Source: Berman et al., 2018, algorithm 1.
    """
    total = foreground.sum(-1, keepdim=True)
    intersection = total - foreground.cumsum(-1)
    union = total + (1 - foreground).cumsum(-1)
    jaccard = 1 - intersection / union
    return torch.diff(jaccard, dim=-1, prepend=torch.zeros_like(jaccard[..., :1]))


def lovasz_softmax(
    probability: Tensor, target: Tensor, classes: Sequence[int] | None = None
) -> Tensor:
    """Return the Lovasz-Softmax loss, averaged over the classes in ``target``.

    Args:
        probability: (N, C); with C = 1 that of the foreground (label 1).
        target: (N,) labels from 0.
        classes: only these; None for all.

    Returns:
        A scalar, zero where no class counts.

    Source: Berman et al., 2018, equation 11 ("present" classes).
    """
    present = target.unique()
    if classes is not None:
        allowed = torch.as_tensor(list(classes), device=target.device)
        present = present[torch.isin(present, allowed)]
    if not len(present):
        return probability.sum() * 0
    losses = []
    # One class at a time: all at once would need N x C sorted copies.
    for label in present:
        foreground = (target == label).to(probability.dtype)
        column = probability[:, 0 if probability.shape[1] == 1 else label]
        error, order = (foreground - column).abs().sort(descending=True)
        losses.append(torch.dot(error, lovasz_gradient(foreground[order])))
    return torch.stack(losses).mean()


def lovasz_hinge(logits: Tensor, target: Tensor) -> Tensor:
    """Return the binary Lovasz hinge of (N,) logits and (N,) labels 0 or 1.

    Source: Berman et al., 2018, section 2.2.
    """
    if not logits.numel():
        return logits.sum() * 0
    target = target.to(logits.dtype)
    error, order = (1 - logits * (2 * target - 1)).sort(descending=True)
    return torch.dot(F.relu(error), lovasz_gradient(target[order]))


def focal_loss(
    logits: Tensor, target: Tensor, gamma: float, alpha: Tensor | float
) -> Tensor:
    """Return the elementwise sigmoid focal loss of logits and 0/1 targets.

    Source: Lin et al., 2017, equation 5.
    """
    probability = logits.sigmoid()
    missed = (1 - probability) * target + probability * (1 - target)
    weight = alpha * target + (1 - alpha) * (1 - target)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return weight * missed.pow(gamma) * entropy


def dice_loss(
    probability: Tensor, onehot: Tensor, smooth: float, exponent: float
) -> Tensor:
    """Return the Dice loss of (N, C) probabilities, averaged over classes.

    Source: Milletari et al., 2016.
    """
    shared = 2 * (probability * onehot).sum(0) + smooth
    total = (probability.pow(exponent) + onehot.pow(exponent)).sum(0) + smooth
    return (1 - shared / total).mean()


@LOSSES.register_module()
class CrossEntropyLoss(nn.Module):
    """Cross-entropy over labelled points; zero where there is none.

    Args:
        weight: of each class.
        size_average, reduce: PyTorch's older names of ``reduction``.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        label_smoothing: share of the target spread over all classes.
        loss_weight: factor.
        ignore_index: label that does not count.
    """

    def __init__(
        self,
        weight: Sequence[float] | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        loss_weight: float = 1.0,
        ignore_index: int = -1,
    ):
        super().__init__()
        if weight is not None:
            weight = torch.tensor(weight, dtype=torch.float32)
        # no entry of the state dict: Pointcept's has none
        self.register_buffer("weight", weight, persistent=False)
        if reduce is False:
            reduction = "none"
        elif size_average is False:
            reduction = "sum"
        self.reduction = reduction
        self.label_smoothing = label_smoothing
        self.loss_weight = loss_weight
        self.ignore_index = ignore_index

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        with _full_precision(pred):
            if self.reduction == "mean" and not (target != self.ignore_index).any():
                return pred.float().sum() * 0
            weight = None if self.weight is None else self.weight.to(pred.device)
            loss = F.cross_entropy(
                pred.float(),
                target.long(),
                weight=weight,
                ignore_index=self.ignore_index,
                reduction=self.reduction,
                label_smoothing=self.label_smoothing,
            )
        return loss * self.loss_weight


@LOSSES.register_module()
class SmoothCELoss(nn.Module):
    """Cross-entropy whose target leaves ``smoothing_ratio`` to the other classes.

    Labels below zero do not count (in Pointcept they raise).
    """

    def __init__(self, smoothing_ratio: float = 0.1):
        super().__init__()
        self.smoothing_ratio = smoothing_ratio

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        with _full_precision(pred):
            target = target.reshape(-1)
            logits = pred.float()[target >= 0]
            target = target[target >= 0].long()
            if not len(target):
                return pred.float().sum() * 0
            others = self.smoothing_ratio / max(logits.shape[1] - 1, 1)
            goal = torch.full_like(logits, others)
            goal.scatter_(1, target[:, None], 1 - self.smoothing_ratio)
            loss = -(goal * logits.log_softmax(1)).sum(1)
            return loss.mean()


@LOSSES.register_module()
class BinaryFocalLoss(nn.Module):
    """Focal loss of two classes.

    Args:
        gamma: how much easy points count less.
        alpha: weight of the foreground, in (0, 1).
        logits: predictions are logits, else probabilities.
        reduce: average over points.
        loss_weight: factor.

    Source: Lin et al., 2017; as in Pointcept ``exp(-bce)`` is the probability.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float = 0.5,
        logits: bool = True,
        reduce: bool = True,
        loss_weight: float = 1.0,
    ):
        super().__init__()
        if not 0 < alpha < 1:
            raise UserError(f"config: BinaryFocalLoss alpha={alpha} is not in (0, 1)")
        self.gamma = gamma
        self.alpha = alpha
        self.logits = logits
        self.reduce = reduce
        self.loss_weight = loss_weight

    def forward(self, pred: Tensor, target: Tensor, **kwargs) -> Tensor:
        with _full_precision(pred):
            pred, target = pred.float(), target.float()
            if not pred.numel():
                return pred.sum() * 0
            if self.logits:
                loss = focal_loss(pred, target, self.gamma, self.alpha)
            else:
                entropy = F.binary_cross_entropy(pred, target, reduction="none")
                weight = self.alpha * target + (1 - self.alpha) * (1 - target)
                loss = weight * (1 - torch.exp(-entropy)).pow(self.gamma) * entropy
            return (loss.mean() if self.reduce else loss) * self.loss_weight


@LOSSES.register_module()
class FocalLoss(nn.Module):
    """Focal loss of several classes, each against the rest.

    Args:
        gamma: how much easy points count less.
        alpha: weight of the foreground, one or one a class.
        reduction: ``"mean"`` or ``"sum"``.
        loss_weight: factor.
        ignore_index: label that does not count.

    Source: Lin et al., 2017.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float | list[float] = 0.5,
        reduction: str = "mean",
        loss_weight: float = 1.0,
        ignore_index: int = -1,
    ):
        super().__init__()
        if reduction not in ("mean", "sum"):
            raise UserError(
                f"config: FocalLoss reduction={reduction!r}; use 'mean' or 'sum'"
            )
        self.gamma = gamma
        self.alpha = alpha
        self.reduction = reduction
        self.loss_weight = loss_weight
        self.ignore_index = ignore_index

    def forward(self, pred: Tensor, target: Tensor, **kwargs) -> Tensor:
        with _full_precision(pred):
            logits, target = _labelled(pred, target, self.ignore_index)
            if not len(target):
                return pred.float().sum() * 0
            onehot = F.one_hot(target, logits.shape[1]).to(logits.dtype)
            alpha = self.alpha
            if isinstance(alpha, (list, tuple)):
                alpha = logits.new_tensor(alpha)
            loss = focal_loss(logits, onehot, self.gamma, alpha)
            loss = loss.mean() if self.reduction == "mean" else loss.sum()
        return self.loss_weight * loss


@LOSSES.register_module()
class DiceLoss(nn.Module):
    """Dice loss of softmax probabilities.

    Args:
        smooth: added to intersection and total.
        exponent: of probabilities in the total.
        loss_weight: factor.
        ignore_index: label that does not count.

    Source: Milletari et al., 2016.
    """

    def __init__(
        self,
        smooth: float = 1,
        exponent: float = 2,
        loss_weight: float = 1.0,
        ignore_index: int = -1,
    ):
        super().__init__()
        self.smooth = smooth
        self.exponent = exponent
        self.loss_weight = loss_weight
        self.ignore_index = ignore_index

    def forward(self, pred: Tensor, target: Tensor, **kwargs) -> Tensor:
        with _full_precision(pred):
            logits, target = _labelled(pred, target, self.ignore_index)
            if not len(target):
                return pred.float().sum() * 0
            num = logits.shape[1]
            onehot = F.one_hot(target.clamp(0, num - 1), num).to(logits.dtype)
            loss = dice_loss(logits.softmax(1), onehot, self.smooth, self.exponent)
        return self.loss_weight * loss


@LOSSES.register_module()
class LovaszLoss(nn.Module):
    """Surrogate of the Jaccard index.

    Args:
        mode: ``"multiclass"`` (softmax), ``"binary"`` or ``"multilabel"`` (hinge).
        class_seen: only these classes.
        per_image: average over the first axis, one loss each, instead of pooling.
        ignore_index: label that does not count.
        loss_weight: factor.

    Shapes:
        pred (N, C) or (B, C, ...), target (N,) or (B, ...); binary and multilabel:
        both of one shape. Zero where nothing is labelled.

    Source: Berman et al., 2018.
    """

    def __init__(
        self,
        mode: str,
        class_seen: Sequence[int] | None = None,
        per_image: bool = False,
        ignore_index: int | None = None,
        loss_weight: float = 1.0,
    ):
        super().__init__()
        if mode not in MODES:
            raise UserError(
                f"config: LovaszLoss mode={mode!r}; use one of {', '.join(MODES)}"
            )
        self.mode = mode
        self.class_seen = class_seen
        self.per_image = per_image
        self.ignore_index = ignore_index
        self.loss_weight = loss_weight

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        parts = [(pred, target)]
        if self.per_image:
            parts = [
                (pred[i : i + 1], target[i : i + 1]) for i in range(len(pred))
            ] or parts
        with _full_precision(pred):
            loss = torch.stack([self._one(*part) for part in parts]).mean()
        return loss * self.loss_weight

    def _one(self, pred: Tensor, target: Tensor) -> Tensor:
        if self.mode == "multiclass":
            logits, target = _labelled(pred, target, self.ignore_index)
            return lovasz_softmax(logits.softmax(1), target, self.class_seen)
        logits, target = pred.reshape(-1).float(), target.reshape(-1)
        if self.ignore_index is not None:
            valid = target != self.ignore_index
            logits, target = logits[valid], target[valid]
        return lovasz_hinge(logits, target)
