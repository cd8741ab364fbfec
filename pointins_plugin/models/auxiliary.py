"""A supervised segmentor that learns offsets to instance centres beside its classes."""

from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from pointins_plugin.errors import UserError
from pointins_plugin.host import (
    MODELS,
    Point,
    build_criteria,
    build_model,
    get_root_logger,
    in_evaluation,
    offset2batch,
)
from pointins_plugin.models.objectives import Match
from pointins_plugin.models.offset_branch import OffsetTarget
from pointins_plugin.models.schedule import ScheduledModel
from pointins_plugin.models.tokens import cell_tokens, up_cast
from pointins_plugin.ops.segments import segment_mean

TARGETS = ("auto", "labels", "self")
CROSS_ENTROPY = {"type": "CrossEntropyLoss", "ignore_index": -1}


@MODELS.register_module()
class OffsetAuxSegmentor(ScheduledModel):
    """``DefaultSegmentorV2`` with the offset branch as an auxiliary loss.

    Takes its keywords, batches and checkpoints (``backbone.*``, ``seg_head.*``) and
    returns what it returns; the branch adds ``offset_loss`` in training. With
    ``offset_branch=None`` it is that model.

    Offsets are predicted for tokens, cubes of ``token_size`` over which the features
    are averaged. They learn from

    - labels, where the batch has ``instance``: the offset from a point to the centroid
      of its instance, seen from the token's predicted centre;
    - otherwise from ODR and SCR, as in ``PointINS``. There is one view and one
      backbone, so that the teacher is only the head, a moving average on the same
      features, which needs ``ModelHook`` among the hooks.

    Args:
        num_classes, backbone_out_channels, backbone, criteria, freeze_backbone: as in
            ``DefaultSegmentorV2``. Without ``criteria`` the loss is the cross-entropy,
            with -1 ignored.
        offset_branch: keyword arguments of ``OffsetBranch``, or None. Its
            ``warmup_ratio`` counts only where ``ModelHook`` moves the schedule.
        targets: ``"labels"``, ``"self"``, or ``"auto"``: labels where there are any.
        token_size: edge of a token, metres.
        momentum_base, momentum_final: of the teacher head, along a cosine.

    Batch: as of ``DefaultSegmentorV2``; ``coord`` (N, 3) metres. For labels also
    ``instance`` (N,), -1 for none, and ``instance_centroid`` (N, 3) in the frame of
    ``coord`` (computed if absent).

    Source: PointINS, offset branch; its use beside labels is ours.
    """

    def __init__(
        self,
        num_classes: int,
        backbone_out_channels: int,
        backbone: dict | None = None,
        criteria: list[dict] | None = None,
        freeze_backbone: bool = False,
        offset_branch: dict | None = None,
        targets: str = "auto",
        token_size: float = 0.08,
        momentum_base: float = 0.994,
        momentum_final: float = 1.0,
    ):
        super().__init__(momentum_base, momentum_final)
        if targets not in TARGETS:
            raise ValueError(f"targets must be one of {TARGETS}, found {targets!r}")
        if not token_size > 0:
            raise ValueError(
                f"token_size must be positive (metres), found {token_size}"
            )
        self.backbone = build_model(backbone)
        if freeze_backbone:  # a backbone may freeze a part of itself: leave it so
            self.backbone.requires_grad_(False)
        self.freeze_backbone = freeze_backbone
        self.seg_head = (
            nn.Linear(backbone_out_channels, num_classes)
            if num_classes > 0
            else nn.Identity()
        )
        self.criteria = build_criteria(criteria or [CROSS_ENTROPY])
        self.targets = targets
        self.token_size = token_size
        self._looked = False  # whether labels have instances
        self.offset_branch = None
        if offset_branch is not None:
            self.offset_branch = build_model({"type": "OffsetBranch", **offset_branch})
            if self.offset_branch.relative_position:
                raise UserError(
                    "config: OffsetAuxSegmentor keeps no coarse cells, so that "
                    "relative_position has no meaning: leave it out of offset_branch"
                )
            self.offset_head = self.offset_branch.build_head(backbone_out_channels)
            self.offset_teacher = self.offset_branch.build_head(backbone_out_channels)
            self.offset_teacher.load_state_dict(self.offset_head.state_dict())
            self.offset_teacher.requires_grad_(False)

    def ema_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Return the (student, teacher) heads to average."""
        if self.offset_branch is None or self.targets == "labels":
            return []
        return [(self.offset_head, self.offset_teacher)]

    def forward(self, input_dict: dict, return_point: bool = False) -> dict:
        """Return what ``DefaultSegmentorV2`` returns, and in training the branch's."""
        point = self._features(input_dict)
        logits = self.seg_head(point.feat)
        output: dict[str, Any] = {"point": point} if return_point else {}
        if self.training and "segment" not in input_dict:
            raise UserError("batch: segment is not there to train on: collect it")
        if "segment" in input_dict:
            output["loss"] = self.criteria(logits, input_dict["segment"])
        if not self.training:
            output["seg_logits"] = logits
        elif self.offset_branch is not None:
            branch = self._branch_step(input_dict, point)
            weight = self.offset_branch.loss_weight
            if self.progress is not None:
                weight *= float(self.offset_branch.is_on(self.progress))
            output["seg_loss"] = output["loss"].detach()
            output["loss"] = output["loss"] + weight * branch["offset_loss"]
            output.update(branch)
        return output

    @torch.no_grad()
    def predict_offsets(self, data_dict: dict, branch: str = "student") -> dict:
        """Predict an offset for every point, as ``PointINS.predict_offsets`` does.

        ``branch`` is there for evaluators: the network is one, so is its answer.
        """
        if self.offset_branch is None:
            raise UserError(
                "model OffsetAuxSegmentor has no offset branch, so that it predicts no "
                "offsets: set offset_branch=dict(...), or take the evaluator from hooks"
            )
        point = in_evaluation(self._features, data_dict)
        tokens, owner = self._tokens(data_dict, point)
        coord = data_dict["coord"].float()
        centre = tokens.coord + self._shift(self.offset_head, tokens)
        return {
            "coord": coord,
            "shift": centre[owner] - coord,
            "offset": data_dict["offset"],
            "feat": tokens.feat[owner],
        }

    def _features(self, input_dict: dict) -> Point:
        """Return the points with the backbone's features of all levels."""
        given = Point(input_dict)
        output = self.backbone(given)
        if isinstance(output, Tensor):  # backbones older than Point return features
            given["feat"] = output
            return given
        return up_cast(output, None)[0]

    def _tokens(self, input_dict: dict, point: Point) -> tuple[Point, Tensor]:
        return cell_tokens(
            input_dict["coord"], point.feat, input_dict["offset"], self.token_size
        )

    def _shift(self, head: nn.Module, tokens: Point) -> Tensor:
        """Return the offsets of tokens, metres."""
        return head(tokens.feat).float() * self.offset_branch.unit

    def _branch_step(self, input_dict: dict, point: Point) -> dict[str, Tensor]:
        tokens, owner = self._tokens(input_dict, point)
        shift = self._shift(self.offset_head, tokens)
        labelled = "instance" in input_dict
        if self.targets == "labels" and not labelled:
            raise UserError(
                "batch: instance is not there, which OffsetAuxSegmentor's targets "
                '"labels" needs; collect it (ThingInstances makes instance_centroid), '
                'or set targets="self"'
            )
        if labelled and self.targets != "self":
            return {
                "offset_loss": self._labelled_loss(input_dict, tokens, owner, shift)
            }
        return self._self_loss(tokens, shift)

    def _labelled_loss(self, input_dict, tokens, owner, shift) -> Tensor:
        coord, offset = input_dict["coord"].float(), input_dict["offset"]
        instance = input_dict["instance"]
        if not self._looked:  # once, as it waits for the GPU
            self._looked = True
            if not bool((instance >= 0).any()):
                get_root_logger().warning(
                    "OffsetAuxSegmentor: no point of the first batch has an instance; "
                    'where scenes have none, offsets learn by targets="self"'
                )
        batch = offset2batch(offset)
        centroid = input_dict.get("instance_centroid")
        if centroid is None:
            centroid = _centroids(coord, instance, batch)
        # What a point is told is its token's centre, seen from the point.
        prediction = (tokens.coord + shift)[owner] - coord
        return self.offset_branch.loss(
            prediction,
            centroid.to(coord) - coord,
            mask=instance >= 0,
            batch=batch,
            num_clouds=len(offset),
            unit=self.offset_branch.unit,
        )

    def _self_loss(self, tokens, shift) -> dict[str, Tensor]:
        if self.progress is None:
            raise UserError(
                "model OffsetAuxSegmentor: without instance labels a teacher head is "
                'averaged; add dict(type="ModelHook") to hooks'
            )
        branch = self.offset_branch
        seed = int(torch.randint(2**62, ()).item())
        generator = torch.Generator().manual_seed(seed)
        feature = tokens.feat.detach()
        with torch.no_grad():
            target: OffsetTarget = branch.targets(
                tokens.coord,
                self._shift(self.offset_teacher, tokens),
                tokens.offset,
                tokens.batch,
                feature,
                self.token_size,
                generator,
            )
        rows = torch.arange(len(shift), device=shift.device)
        output = branch(
            shift,
            tokens.coord,
            target,
            tokens.coord,
            Match(rows, rows, tokens.batch),
            None,
            len(tokens.offset),
            generator,
        )
        return {
            "offset_loss": output["offset_loss"],
            "target_share": target.mask.float().mean(),
        }


def _centroids(coord: Tensor, instance: Tensor, batch: Tensor) -> Tensor:
    """Return for every point the centroid of its instance (of its cloud)."""
    pair = torch.stack([batch, instance.long()], dim=1)
    _, owner = torch.unique(pair, dim=0, return_inverse=True)
    return segment_mean(coord, owner, int(owner.max()) + 1 if len(owner) else 0)[owner]
