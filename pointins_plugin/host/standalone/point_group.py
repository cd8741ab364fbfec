"""PointGroup: instance segmentation by points shifted to their centres."""

from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from pointins_plugin.errors import UserError
from pointins_plugin.ops.proposals import propose_instances

from .builders import build_criteria, build_model
from .point import offset2batch
from .registry import MODELS
from .segmentor import freeze, input_features

# Added to lengths and counts before a division, as in Pointcept.
_TINY = 1e-8


def bias_losses(
    prediction: Tensor, target: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the L1 distance and the negative cosine of offsets, averaged.

    Args:
        prediction, target: (N, 3) metres.
        mask: (N,) bool, points of an instance; both losses are zero without any.

    Source: PointGroup, equations 2 and 3.
    """
    with torch.autocast(prediction.device.type, enabled=False):
        dtype = torch.promote_types(prediction.dtype, torch.float32)
        prediction, target = prediction[mask].to(dtype), target[mask].to(dtype)
        count = len(target) + _TINY
        distance = (prediction - target).abs().sum() / count
        lengths = (_length(prediction) + _TINY) * (_length(target) + _TINY)
        cosine = (prediction * target).sum(1) / lengths
        return distance, -cosine.sum() / count


def _length(vector: Tensor) -> Tensor:
    """Return lengths (N,) whose gradient at zero is zero."""
    square = vector.square().sum(1)
    zero = square == 0
    return torch.where(zero, 1.0, square).sqrt().masked_fill(zero, 0)


@MODELS.register_module("PG-v1m2")
class PointGroup(nn.Module):
    """A backbone, a semantic head and a bias head to the centres of instances.

    Args:
        backbone: config of the backbone.
        backbone_out_channels: channels of its features, summed over the levels of an
            encoder.
        semantic_num_classes: of the semantic head.
        semantic_ignore_index: label that does not count.
        segment_ignore_index: classes that have no instances.
        instance_ignore_index: id of points of no instance.
        cluster_thresh: centres nearer than this are one instance, in voxels.
        cluster_closed_points: accepted for compatibility; neighbours are not capped.
        cluster_propose_points: proposals have more points than this.
        cluster_min_points: and at least so many.
        voxel_size: metres.
        criteria: configs of the semantic losses; None for the cross-entropy.
        freeze_backbone: train the heads alone.

    Batch: ``coord`` (N, 3) metres, ``offset``, what the backbone takes, and for the
    loss ``segment``, ``instance`` (N,) and ``instance_centroid`` (N, 3).

    Returns ``loss`` and its parts where there are labels; in evaluation
    ``pred_masks`` (K, N) bool, ``pred_classes`` and ``pred_scores`` (K,), all on the
    CPU, and beside Pointcept's entries ``pred_instance`` (N,), which says in one
    number a point what the masks say. No thing predicted gives K = 0.
    """

    def __init__(
        self,
        backbone: dict,
        backbone_out_channels: int = 64,
        semantic_num_classes: int = 20,
        semantic_ignore_index: int = -1,
        segment_ignore_index: tuple[int, ...] = (-1, 0, 1),
        instance_ignore_index: int = -1,
        cluster_thresh: float = 1.5,
        cluster_closed_points: int = 300,
        cluster_propose_points: int = 100,
        cluster_min_points: int = 50,
        voxel_size: float = 0.02,
        criteria: list[dict] | None = None,
        freeze_backbone: bool = False,
    ):
        super().__init__()
        if not cluster_thresh * voxel_size > 0:
            raise UserError(
                f"config: PointGroup cluster_thresh={cluster_thresh} of voxel_size="
                f"{voxel_size} m; give lengths above 0"
            )
        channels = backbone_out_channels
        self.segment_ignore_index = tuple(segment_ignore_index)
        self.semantic_ignore_index = semantic_ignore_index
        self.semantic_num_classes = semantic_num_classes
        self.instance_ignore_index = instance_ignore_index
        self.min_points = max(cluster_min_points, cluster_propose_points + 1)
        self.radius = cluster_thresh * voxel_size
        self.backbone = build_model(backbone)
        self.bias_head = nn.Sequential(
            nn.Linear(channels, channels),
            nn.BatchNorm1d(channels, eps=1e-3, momentum=0.01),
            nn.ReLU(),
            nn.Linear(channels, 3),
        )
        self.seg_head = nn.Linear(channels, semantic_num_classes)
        if criteria is None:
            criteria = [
                dict(type="CrossEntropyLoss", ignore_index=semantic_ignore_index)
            ]
        self.seg_criteria = build_criteria(criteria)
        self.freeze_backbone = freeze_backbone
        if freeze_backbone:
            freeze(self.backbone)

    def forward(self, data_dict: dict, return_point: bool = False) -> dict[str, Any]:
        if return_point:
            return {"point": self.backbone(data_dict)}
        feature, _ = input_features(self.backbone(data_dict))
        bias, logits = self.bias_head(feature), self.seg_head(feature)
        result: dict[str, Any] = {}
        if "segment" in data_dict and "instance" in data_dict:
            result = self._losses(bias, logits, data_dict)
        if not self.training:
            result.update(self._instances(bias, logits, data_dict))
        return result

    def _losses(self, bias: Tensor, logits: Tensor, batch: dict) -> dict[str, Tensor]:
        semantic = self.seg_criteria(logits, batch["segment"])
        mask = batch["instance"] != self.instance_ignore_index
        target = batch["instance_centroid"] - batch["coord"]
        distance, cosine = bias_losses(bias, target, mask)
        return {
            "loss": semantic + distance + cosine,
            "seg_loss": semantic,
            "bias_l1_loss": distance,
            "bias_cosine_loss": cosine,
        }

    def _instances(self, bias: Tensor, logits: Tensor, batch: dict) -> dict[str, Any]:
        found = propose_instances(
            batch["coord"] + bias,
            F.softmax(logits.float(), dim=-1),
            self.segment_ignore_index,
            offset2batch(batch["offset"]),
            radius=self.radius,
            min_size=self.min_points,
        )
        return {
            "pred_scores": found.scores.cpu(),
            "pred_masks": found.masks().cpu(),
            "pred_classes": found.classes.cpu(),
            "pred_instance": found.label.cpu(),
        }


@MODELS.register_module("PG-v1m1")
class PointGroupBase(PointGroup):
    """The older PointGroup, whose semantic loss is the cross-entropy.

    Its keywords are those of ``PG-v1m2`` without ``criteria`` and ``freeze_backbone``.
    """

    def __init__(
        self,
        backbone: dict,
        backbone_out_channels: int = 64,
        semantic_num_classes: int = 20,
        semantic_ignore_index: int = -1,
        segment_ignore_index: tuple[int, ...] = (-1, 0, 1),
        instance_ignore_index: int = -1,
        cluster_thresh: float = 1.5,
        cluster_closed_points: int = 300,
        cluster_propose_points: int = 100,
        cluster_min_points: int = 50,
        voxel_size: float = 0.02,
    ):
        options = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        super().__init__(**options)
