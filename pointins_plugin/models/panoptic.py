"""PointGroup for panoptic segmentation: a class for every point, things counted."""

from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from pointins_plugin.errors import UserError
from pointins_plugin.host import (
    MODELS,
    Point,
    bias_losses,
    build_criteria,
    build_model,
    offset2batch,
)
from pointins_plugin.models.tokens import up_cast
from pointins_plugin.ops.panoptic import merge_panoptic
from pointins_plugin.ops.proposals import GROUPINGS
from pointins_plugin.ops.smoothing import smooth_things

CROSS_ENTROPY = {"type": "CrossEntropyLoss", "ignore_index": -1}


@MODELS.register_module()
class PointGroupPanoptic(nn.Module):
    """A backbone, a semantic head and a bias head to the centres of things.

    In evaluation every point gets a class, and things an instance: points of thing
    classes are shifted by their bias and grouped whatever their class; an instance
    takes the class of most of its points, and so do all its points; stuff is what the
    semantic head says. ``ops.panoptic.merge_panoptic`` states the rules in full.

    Args:
        backbone: config of the backbone.
        backbone_out_channels: channels of its features, summed over the levels of an
            encoder.
        semantic_num_classes: of the semantic head.
        segment_ignore_index: classes that have no instances: stuff, and -1.
        instance_ignore_index: id of points of no instance.
        criteria: configs of the semantic losses; None for the cross-entropy, with -1
            ignored.
        bias_loss_weight: of the losses of the bias, beside the semantic one.
        freeze_backbone: train the heads alone.
        grouping: ``"components"`` (centres nearer than ``radius``, transitively) or
            ``"modes"`` (mean shift).
        radius: metres.
        bandwidth: of the mean shift, metres; None for twice the radius.
        min_points: fewest points of an instance, of those that the network sees.
        smoothing: keyword arguments of ``ops.smoothing.smooth_offsets``, by which the
            bias of things is averaged before they are grouped; None for none.

    Batch: ``coord`` (N, 3) metres, ``offset``, what the backbone takes, and for the
    loss ``segment``, ``instance`` (N,) and ``instance_centroid`` (N, 3).

    Returns where there are labels ``loss`` and its parts ``seg_loss``,
    ``bias_l1_loss``, ``bias_cosine_loss``; in evaluation ``seg_logits`` (N, C),
    ``pred_segment`` and ``pred_instance`` (N,) long, -1 for no instance,
    ``pred_classes`` and ``pred_scores`` (K,) of the instances.

    Source: PointGroup (Jiang et al., 2020) for heads and losses, the grouping over
    classes and the vote as in panoptic segmentation.
    """

    def __init__(
        self,
        backbone: dict,
        backbone_out_channels: int = 64,
        semantic_num_classes: int = 20,
        segment_ignore_index: tuple[int, ...] = (-1,),
        instance_ignore_index: int = -1,
        criteria: list[dict] | None = None,
        bias_loss_weight: float = 1.0,
        freeze_backbone: bool = False,
        grouping: str = "components",
        radius: float = 0.5,
        bandwidth: float | None = None,
        min_points: int = 10,
        smoothing: dict | None = None,
    ):
        super().__init__()
        if grouping not in GROUPINGS:
            raise UserError(
                f"config: PointGroupPanoptic grouping={grouping!r}; use one of "
                f"{', '.join(GROUPINGS)}"
            )
        for name, value in (("radius", radius), ("bandwidth", bandwidth)):
            if value is not None and not value > 0:
                raise UserError(
                    f"config: PointGroupPanoptic {name}={value} m; give a length "
                    "above 0"
                )
        channels = backbone_out_channels
        self.segment_ignore_index = tuple(segment_ignore_index)
        self.instance_ignore_index = instance_ignore_index
        self.bias_loss_weight = bias_loss_weight
        self.grouping = grouping
        self.radius = radius
        self.bandwidth = bandwidth
        self.min_points = min_points
        self.smoothing = smoothing
        self.backbone = build_model(backbone)
        self.bias_head = nn.Sequential(
            nn.Linear(channels, channels),
            nn.BatchNorm1d(channels, eps=1e-3, momentum=0.01),
            nn.ReLU(),
            nn.Linear(channels, 3),
        )
        self.seg_head = nn.Linear(channels, semantic_num_classes)
        self.criteria = build_criteria(criteria or [CROSS_ENTROPY])
        self.freeze_backbone = freeze_backbone
        if freeze_backbone:  # a backbone may freeze a part of itself: leave it so
            self.backbone.requires_grad_(False)

    def forward(self, data_dict: dict) -> dict[str, Any]:
        feature = self._features(data_dict)
        bias, logits = self.bias_head(feature), self.seg_head(feature)
        result: dict[str, Any] = {}
        if self.training or "instance_centroid" in data_dict:
            result = self._losses(bias, logits, data_dict)
        if not self.training:
            result.update(self.segments(bias, logits, data_dict))
        return result

    def _features(self, data_dict: dict) -> Tensor:
        output = self.backbone(Point(data_dict))
        if isinstance(output, Tensor):  # backbones older than Point return features
            return output
        return up_cast(output, None)[0].feat

    def _losses(self, bias: Tensor, logits: Tensor, batch: dict) -> dict[str, Tensor]:
        for key in ("segment", "instance", "instance_centroid"):
            if key not in batch:
                raise UserError(
                    f"PointGroupPanoptic: training batches have no {key!r}; add it to "
                    "the keys of Collect (InstanceParser makes instance_centroid)"
                )
        semantic = self.criteria(logits, batch["segment"])
        mask = batch["instance"] != self.instance_ignore_index
        target = batch["instance_centroid"] - batch["coord"]
        distance, cosine = bias_losses(bias, target, mask)
        return {
            "loss": semantic + self.bias_loss_weight * (distance + cosine),
            "seg_loss": semantic,
            "bias_l1_loss": distance,
            "bias_cosine_loss": cosine,
        }

    @torch.no_grad()
    def segments(self, bias: Tensor, logits: Tensor, batch: dict) -> dict[str, Tensor]:
        """Return the panoptic prediction of heads' outputs (N, 3) and (N, C)."""
        coord, bias = batch["coord"].float(), bias.float()
        probability = F.softmax(logits.float(), dim=-1)
        if self.smoothing:
            ignore, offset = self.segment_ignore_index, batch["offset"]
            bias = smooth_things(
                coord, bias, probability, ignore, offset, **self.smoothing
            )
        found = merge_panoptic(
            coord + bias,
            probability,
            self.segment_ignore_index,
            offset2batch(batch["offset"]),
            method=self.grouping,
            radius=self.radius,
            bandwidth=self.bandwidth,
            min_size=self.min_points,
        )
        return {
            "seg_logits": logits,
            "pred_segment": found.segment,
            "pred_instance": found.instance,
            "pred_classes": found.classes,
            "pred_scores": found.scores,
        }
