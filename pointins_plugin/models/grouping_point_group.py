"""PointGroup of the host with a choice of grouping, in metres."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from pointins_plugin.errors import UserError
from pointins_plugin.host import MODELS, offset2batch
from pointins_plugin.ops.proposals import GROUPINGS, propose_instances
from pointins_plugin.ops.smoothing import smooth_things


@MODELS.register_module("PG-grouping")
class GroupingPointGroup(MODELS.get("PG-v1m2")):
    """``PG-v1m2`` of either host whose proposals come from our grouping.

    Network, losses, keywords and weights are the host's own; what differs is how
    instances are made of shifted points in evaluation. Scenes where nothing is
    predicted as a thing, piles of any size and batches of several scenes are fine.

    Args:
        grouping: ``"components"`` (PointGroup's: nearer than ``radius``,
            transitively) or ``"modes"`` (mean shift of ``bandwidth``).
        radius: metres; None for ``cluster_thresh * voxel_size``.
        bandwidth: metres; None for twice the radius.
        smoothing: keyword arguments of ``ops.smoothing.smooth_offsets``, by which the
            predicted centres of points of things are averaged before they are grouped;
            None for none, as in PointGroup.
        **options: of ``PG-v1m2``.

    Raises:
        UserError: an unknown grouping, or a length that is not above zero.

    Source: modes and smoothing are the prototype's, not PointGroup's.
    """

    def __init__(
        self,
        backbone: dict,
        grouping: str = "components",
        radius: float | None = None,
        bandwidth: float | None = None,
        smoothing: dict | None = None,
        cluster_thresh: float = 1.5,
        cluster_propose_points: int = 100,
        cluster_min_points: int = 50,
        voxel_size: float = 0.02,
        **options: Any,
    ):
        super().__init__(
            backbone,
            cluster_thresh=cluster_thresh,
            cluster_propose_points=cluster_propose_points,
            cluster_min_points=cluster_min_points,
            voxel_size=voxel_size,
            **options,
        )
        if grouping not in GROUPINGS:
            raise UserError(
                f"config: PG-grouping grouping={grouping!r}; use one of "
                f"{', '.join(GROUPINGS)}"
            )
        radius = cluster_thresh * voxel_size if radius is None else radius
        bandwidth = 2 * radius if bandwidth is None else bandwidth
        for name, value in (("radius", radius), ("bandwidth", bandwidth)):
            if not value > 0:
                raise UserError(
                    f"config: PG-grouping {name}={value} m; give a length above 0"
                )
        self.grouping = grouping
        self.radius = radius
        self.bandwidth = bandwidth
        self.smoothing = smoothing
        self.min_points = max(cluster_min_points, cluster_propose_points + 1)

    def forward(self, data_dict: dict, return_point: bool = False) -> dict[str, Any]:
        if self.training or return_point:
            return super().forward(data_dict, return_point)
        heads: dict[str, Tensor] = {}
        handles = [
            head.register_forward_hook(
                lambda module, inputs, output, name=name: heads.update({name: output})
            )
            for name, head in (("bias", self.bias_head), ("logits", self.seg_head))
        ]
        # The host groups where this flag is down; its layers keep their own.
        self.training = True
        try:
            result = super().forward(data_dict)
        finally:
            self.training = False
            for handle in handles:
                handle.remove()
        coord, bias = data_dict["coord"], heads["bias"]
        probability = F.softmax(heads["logits"].float(), dim=-1)
        if self.smoothing:
            bias = smooth_things(
                coord.float(),
                bias.float(),
                probability,
                self.segment_ignore_index,
                data_dict["offset"],
                **self.smoothing,
            )
        found = propose_instances(
            coord + bias,
            probability,
            self.segment_ignore_index,
            offset2batch(data_dict["offset"]),
            method=self.grouping,
            radius=self.radius,
            bandwidth=self.bandwidth,
            min_size=self.min_points,
        )
        return {
            **result,
            "pred_scores": found.scores.cpu(),
            "pred_masks": found.masks().cpu(),
            "pred_classes": found.classes.cpu(),
            "pred_instance": found.label.cpu(),
        }
