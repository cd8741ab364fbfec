"""Semantic segmentation: a backbone and a linear head."""

from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from .builders import build_criteria, build_model
from .point import Point
from .registry import MODELS


def input_features(output: Any) -> tuple[Tensor, Any]:
    """Return a backbone's features for every input point, and the input Point.

    Where a hierarchical encoder left its pools behind, the features of all levels are
    concatenated, finest first, by walking from the coarsest to the input.

    Args:
        output: a Point, or features (N, C) as older backbones return.
    """
    if not isinstance(output, Point):
        return output, None
    point = output
    while "pooling_parent" in point.keys():
        parent, inverse = point.pop("pooling_parent"), point.pop("pooling_inverse")
        parent.feat = torch.cat([parent.feat, point.feat[inverse]], dim=-1)
        point = parent
    return point.feat, point


def freeze(module: nn.Module) -> None:
    """Take a module's parameters out of training."""
    module.requires_grad_(False)


def _segmentation(model: nn.Module, logits: Tensor, batch: dict) -> dict[str, Tensor]:
    """Return logits outside training, and the loss where there are labels."""
    result = {}
    if model.training or "segment" in batch:
        result["loss"] = model.criteria(logits, batch["segment"])
    if not model.training:
        result["seg_logits"] = logits
    return result


@MODELS.register_module()
class DefaultSegmentor(nn.Module):
    """A backbone that returns logits itself.

    Args:
        backbone: config of the backbone.
        criteria: configs of the losses, which are summed.

    Returns in training ``loss``; in evaluation also ``seg_logits`` (N, classes).
    """

    def __init__(
        self, backbone: dict | None = None, criteria: list[dict] | None = None
    ):
        super().__init__()
        self.backbone = build_model(backbone)
        self.criteria = build_criteria(criteria)

    def forward(self, input_dict: dict) -> dict[str, Tensor]:
        if "condition" in input_dict:
            input_dict["condition"] = input_dict["condition"][0]
        return _segmentation(self, self.backbone(input_dict), input_dict)


@MODELS.register_module()
class DefaultSegmentorV2(nn.Module):
    """A backbone and a linear head.

    Args:
        num_classes: of the head; 0 for none.
        backbone_out_channels: channels of the backbone's features, summed over the
            levels of an encoder.
        backbone: config of the backbone.
        criteria: configs of the losses, which are summed.
        freeze_backbone: train the head alone.

    Returns in training ``loss``; in evaluation also ``seg_logits`` (N, classes); with
    ``return_point`` the ``point``.
    """

    def __init__(
        self,
        num_classes: int,
        backbone_out_channels: int,
        backbone: dict | None = None,
        criteria: list[dict] | None = None,
        freeze_backbone: bool = False,
    ):
        super().__init__()
        self.seg_head: nn.Module = nn.Identity()
        if num_classes > 0:
            self.seg_head = nn.Linear(backbone_out_channels, num_classes)
        self.backbone = build_model(backbone)
        self.criteria = build_criteria(criteria)
        self.freeze_backbone = freeze_backbone
        if freeze_backbone:
            freeze(self.backbone)

    def forward(self, input_dict: dict, return_point: bool = False) -> dict[str, Any]:
        feature, point = input_features(self.backbone(Point(input_dict)))
        result = _segmentation(self, self.seg_head(feature), input_dict)
        if return_point:
            result["point"] = point if point is not None else feature
        return result
