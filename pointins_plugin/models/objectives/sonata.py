"""Online clustering of masked and local views: the semantic objective of Sonata."""

import torch.nn as nn
from torch import Tensor

from pointins_plugin.host import MODELS
from pointins_plugin.losses.prototype import prototype_loss, prototype_target
from pointins_plugin.models.heads import WeightNormPrototypeHead

from .base import LocalViews, Match, linear_warmup


@MODELS.register_module()
class SonataObjective(nn.Module):
    """Assign masked and local tokens to the prototypes the teacher assigns them to.

    The teacher sees whole global views and its cosines with the prototypes are
    balanced by Sinkhorn-Knopp over the matched tokens of all ranks. The student
    predicts these assignments

    - from the masked global view, of the same view (``mask_loss``) and of the scene's
      other global view (``roll_mask_loss``), through ``mask_head``;
    - from small local views, of the scene's first global view (``unmask_loss``),
      through ``unmask_head``.

    Args:
        hidden_channels, embed_channels, num_prototypes: sizes of the heads.
        teacher_temp_start, teacher_temp_base, teacher_temp_warmup_ratio: the
            teacher's temperature rises linearly over this share of the schedule.
        student_temp: temperature of the student.
        num_iters: Sinkhorn rounds.
        mask_loss_weight, roll_mask_loss_weight, unmask_loss_weight: weights of the
            terms; what has no weight is not computed and has no head.
        shared_teacher_head: the teacher's ``mask_head`` also assigns the targets of
            local views (``Sonata-v1m2``).

    Source: Sonata (Pointcept ``Sonata-v1m1``): names of heads and losses are its own.
    Cosines are float32 also in mixed precision.
    """

    student_input = "masked"
    has_prototypes = True

    def __init__(
        self,
        hidden_channels: int = 4096,
        embed_channels: int = 256,
        num_prototypes: int = 4096,
        teacher_temp_start: float = 0.04,
        teacher_temp_base: float = 0.07,
        teacher_temp_warmup_ratio: float = 0.05,
        student_temp: float = 0.1,
        num_iters: int = 3,
        mask_loss_weight: float = 2 / 8,
        roll_mask_loss_weight: float = 2 / 8,
        unmask_loss_weight: float = 4 / 8,
        shared_teacher_head: bool = False,
    ):
        super().__init__()
        self.weights = {
            "mask": mask_loss_weight,
            "roll_mask": roll_mask_loss_weight,
            "unmask": unmask_loss_weight,
        }
        if min(self.weights.values()) < 0 or not any(self.weights.values()):
            raise ValueError(
                "mask_loss_weight, roll_mask_loss_weight and unmask_loss_weight must "
                f"not be negative and not all be zero, found {self.weights}"
            )
        self.head_sizes = {
            "hidden_channels": hidden_channels,
            "embed_channels": embed_channels,
            "num_prototypes": num_prototypes,
        }
        self.teacher_temp_start = teacher_temp_start
        self.teacher_temp_base = teacher_temp_base
        self.teacher_temp_warmup_ratio = teacher_temp_warmup_ratio
        self.teacher_temp = teacher_temp_start
        self.student_temp = student_temp
        self.num_iters = num_iters
        self.uses_other_view = roll_mask_loss_weight > 0
        self.uses_masked_view = mask_loss_weight > 0 or roll_mask_loss_weight > 0
        self.uses_local_views = unmask_loss_weight > 0
        self.shared_teacher_head = shared_teacher_head and self.uses_masked_view

    def build_heads(self, in_channels: int) -> dict[str, nn.Module]:
        """Return the heads that student and teacher each own, by name."""
        used = {
            "mask_head": self.uses_masked_view,
            "unmask_head": self.uses_local_views,
        }
        return {
            name: WeightNormPrototypeHead(in_channels, **self.head_sizes)
            for name, is_used in used.items()
            if is_used
        }

    def set_progress(self, progress: float) -> None:
        """Move the schedules to ``progress`` in [0, 1] of training."""
        self.teacher_temp = linear_warmup(
            self.teacher_temp_start,
            self.teacher_temp_base,
            progress,
            self.teacher_temp_warmup_ratio,
        )

    def teacher_outputs(
        self, heads: nn.ModuleDict, feature: Tensor
    ) -> dict[str, Tensor]:
        """Return the teacher's cosines (N, K) by head; call without gradient."""
        outputs = {}
        if self.uses_masked_view:
            outputs["mask_head"] = heads["mask_head"](feature)
        if self.shared_teacher_head:
            outputs["unmask_head"] = outputs["mask_head"]
        elif self.uses_local_views:
            outputs["unmask_head"] = heads["unmask_head"](feature)
        return outputs

    def forward(
        self,
        heads: nn.ModuleDict,
        feature: Tensor | None,
        teacher_outputs: dict[str, Tensor],
        same_view: Match | None,
        cross_view: Match | None,
        num_clouds: int,
        local_views: LocalViews | None = None,
    ) -> dict[str, Tensor]:
        """Return the named losses of student features (N, C).

        ``semantic_loss`` is the objective; the other entries are its parts. The keys
        are the same on every rank whatever was matched. What a term without weight
        would need may be None.
        """
        losses = {}
        if self.uses_masked_view:
            cosine = heads["mask_head"](feature)
            for name, match in (("mask", same_view), ("roll_mask", cross_view)):
                if self.weights[name] > 0:
                    losses[f"{name}_loss"] = self._term(
                        cosine, teacher_outputs["mask_head"], match, num_clouds
                    )
        if self.uses_local_views:
            losses["unmask_loss"] = self._term(
                heads["unmask_head"](local_views.feature),
                teacher_outputs["unmask_head"],
                local_views.match,
                local_views.num_clouds,
            )
        losses["semantic_loss"] = sum(
            weight * losses[f"{name}_loss"]
            for name, weight in self.weights.items()
            if weight > 0
        )
        return losses

    def _term(
        self, cosine: Tensor, teacher_cosine: Tensor, match: Match, num_clouds: int
    ) -> Tensor:
        target = prototype_target(
            teacher_cosine[match.teacher], self.teacher_temp, self.num_iters
        )
        return prototype_loss(
            target, cosine[match.student], match.batch, num_clouds, self.student_temp
        )
