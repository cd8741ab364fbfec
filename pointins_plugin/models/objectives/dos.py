"""Distilling observable softmaps: the semantic objective of DOS."""

import torch.nn as nn
from torch import Tensor

from pointins_plugin.host import MODELS
from pointins_plugin.losses.softmap import softmap_loss, softmap_target
from pointins_plugin.models.heads import PrototypeHead

from .base import LocalViews, Match, linear_warmup


@MODELS.register_module()
class DOSObjective(nn.Module):
    """Distil observable softmaps: the student sees visible tokens only.

    Half the loss matches the same view, half the other view of the scene.

    Args:
        hidden_channels, embed_channels, num_prototypes: sizes of the head.
        teacher_temp_start, teacher_temp_base, teacher_temp_warmup_ratio: the
            teacher's temperature rises linearly over this share of the schedule.
        student_temp: temperature of the student.
        alpha: exponent of the Zipf prior on prototype usage, 0 for plain Sinkhorn.
        num_iters: Sinkhorn rounds.
        scope: ``"batch"`` or ``"cloud"``, see ``softmap_target``.

    Source: DOS (arXiv 2512.11465); temperatures and sizes are Sonata's, as the
    paper does not give them.
    """

    student_input = "visible"
    uses_masked_view = True
    uses_other_view = True
    uses_local_views = False
    has_prototypes = True

    def __init__(
        self,
        hidden_channels: int = 4096,
        embed_channels: int = 256,
        num_prototypes: int = 1024,
        teacher_temp_start: float = 0.04,
        teacher_temp_base: float = 0.07,
        teacher_temp_warmup_ratio: float = 0.05,
        student_temp: float = 0.1,
        alpha: float = 1.3,
        num_iters: int = 20,
        scope: str = "batch",
    ):
        super().__init__()
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
        self.alpha = alpha
        self.num_iters = num_iters
        self.scope = scope

    def build_heads(self, in_channels: int) -> dict[str, nn.Module]:
        """Return the heads that student and teacher each own, by name."""
        return {"softmap_head": PrototypeHead(in_channels, **self.head_sizes)}

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
        return {"softmap_head": heads["softmap_head"](feature)}

    def forward(
        self,
        heads: nn.ModuleDict,
        feature: Tensor,
        teacher_outputs: dict[str, Tensor],
        same_view: Match,
        cross_view: Match,
        num_clouds: int,
        local_views: LocalViews | None = None,
    ) -> dict[str, Tensor]:
        """Return the named losses of student features (N, C).

        ``semantic_loss`` is the objective; the other entries are its parts. The keys
        are the same on every rank whatever was matched.
        """
        similarity = heads["softmap_head"](feature)
        losses = {}
        for name, match in (("same_view", same_view), ("cross_view", cross_view)):
            target = softmap_target(
                teacher_outputs["softmap_head"][match.teacher],
                match.batch,
                num_clouds,
                temperature=self.teacher_temp,
                alpha=self.alpha,
                num_iters=self.num_iters,
                scope=self.scope,
            )
            losses[f"{name}_loss"] = softmap_loss(
                target,
                similarity[match.student],
                match.batch,
                num_clouds,
                temperature=self.student_temp,
            )
        losses["semantic_loss"] = 0.5 * (
            losses["same_view_loss"] + losses["cross_view_loss"]
        )
        return losses
